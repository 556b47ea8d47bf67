// Tokens and key sets in the shapes of twelve providers, for the policies of `docs/providers.md`: the documents
// that each serves, the tokens that are accepted with the identity that results, and tokens that are
// refused. Claims, headers and key members are those of the providers' documentation; names and ids are
// invented.
//
// `make.js providers` writes them to providers.json for the native tests, at a fixed time.
// `tests/edge/providers.test.js` makes new ones and sends them to the running gateway.

import * as crypto from "node:crypto";

import { b64 } from "./cases.js";

const DISCOVERY = "/.well-known/openid-configuration";
const OWNER = "6d8f3e0c-2f61-4a0e-9f54-1f2c3d4e5a6b";
const TENANT = "8f2a3c4d-1111-4222-8333-9c0d1e2f3a4b";
const CUSTOMERS = ["11111111-aaaa-4bbb-8ccc-222222222222", "33333333-dddd-4eee-8fff-444444444444"];
const STRANGER = "99999999-0000-4000-8000-999999999999";

// A key of the set, with the members of most providers; undefined removes one. `sign` signs claims with the
// header of most providers.
function makeKey(alg, kid, members = {}) {
  const { publicKey, privateKey } =
    alg === "RS256"
      ? crypto.generateKeyPairSync("rsa", { modulusLength: 2048 })
      : crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
  const sign = (claims, header = {}) => {
    const all = { alg, typ: "JWT", kid, ...header };
    const input = `${b64(JSON.stringify(all))}.${b64(JSON.stringify(claims))}`;
    const signature = crypto.sign("sha256", Buffer.from(input), { key: privateKey, dsaEncoding: "ieee-p1363" });
    return `${input}.${b64(signature)}`;
  };
  return { jwk: { ...publicKey.export({ format: "jwk" }), kid, use: "sig", alg, ...members }, sign };
}

// As long as a certificate; its content is not read here.
const certificate = () => crypto.randomBytes(750).toString("base64");

const keySet = (keys) => JSON.stringify({ keys: keys.map(({ jwk }) => jwk) });

// The documents that a provider serves: what discovery finds at `at`, and the key set.
const serve = (issuer, jwks_uri, keys, { at = `${issuer}${DISCOVERY}`, more = {} } = {}) => ({
  [at]: JSON.stringify({
    issuer,
    jwks_uri,
    response_types_supported: ["code"],
    subject_types_supported: ["public"],
    ...more,
  }),
  [jwks_uri]: keySet(keys),
});

export function makeProviders(now) {
  return [
    auth0(now),
    clerk(now),
    cloudflareAccess(now),
    cognito(now),
    entraId(now),
    entraIdTenants(now),
    firebase(now),
    google(now),
    googleIap(now),
    keycloak(now),
    kubernetes(now),
    okta(now),
    supabase(now),
  ];
}

function auth0(now) {
  const iss = "https://shop.eu.auth0.com/";
  const key = makeKey("RS256", "Mq1kYkzPXnJ2hUe0bUS3n", { x5t: "k3m", x5c: [certificate()] });
  const next = makeKey("RS256", "zV9sYpTTgPcm1nDa8dRxw", { x5t: "q7z", x5c: [certificate()] });
  const claims = {
    "https://shop.example/roles": ["admin"],
    iss,
    sub: "auth0|64f1c2b3a4d5e6f708192a3b",
    aud: ["https://api.shop.example", "https://shop.eu.auth0.com/userinfo"],
    iat: now,
    exp: now + 86_400,
    scope: "openid profile email read:orders",
    azp: "my1ClientIdOfTheShopsWebPages00",
    permissions: ["read:orders"],
  };
  const idToken = {
    ...{ iss, aud: claims.azp, iat: now, exp: now + 36_000, sub: claims.sub, sid: "s1", nonce: "n" },
    ...{ email: "ada@example.com", email_verified: true },
  };
  const admin = { user_id: claims.sub, roles: "admin" };
  const by = (changes) => key.sign({ ...claims, ...changes });
  const rfc9068 = key.sign({ ...claims, jti: "j1", client_id: claims.azp }, { typ: "at+jwt" });
  return {
    name: "auth0",
    documents: serve(iss, `${iss}.well-known/jwks.json`, [key, next], { at: `https://shop.eu.auth0.com${DISCOVERY}` }),
    cases: [
      taken("an access token", by({}), admin),
      taken("an access token of the next key", next.sign(claims), admin),
      taken("an access token in the profile of RFC 9068", rfc9068, admin),
      refused("an ID token", key.sign(idToken), "token_audience_invalid"),
      refused("a token for the management API", by({ aud: `${iss}api/v2/` }), "token_audience_invalid"),
      refused("a token of another tenant", by({ iss: "https://other.eu.auth0.com/" }), "token_issuer_unknown"),
    ],
  };
}

function clerk(now) {
  const iss = "https://clerk.shop.example";
  const key = makeKey("RS256", "ins_2abcDEFghiJKLmnoPQRstuVWXyz");
  const claims = {
    azp: "https://app.shop.example",
    exp: now + 60,
    fva: [7, -1],
    iat: now,
    iss,
    jti: "a1b2c3d4e5f60718",
    nbf: now - 10,
    o: { id: "org_2abc", rol: "admin", slg: "shop", per: "read,manage", fpm: "3,1" },
    pla: "o:pro",
    sid: "sess_2abcDEFghiJKLmnoPQRstuVWXyz",
    sts: "active",
    sub: "user_2abcDEFghiJKLmnoPQRstuVWXyz",
    v: 2,
  };
  const by = (changes) => key.sign({ ...claims, ...changes }, { cat: "cl_B7d4PD111AAA" });
  const another = by({ azp: "https://evil.example" });
  return {
    name: "clerk",
    documents: serve(iss, `${iss}/.well-known/jwks.json`, [key]),
    cases: [
      taken("a session token", by({}), { user_id: claims.sub, roles: "admin" }),
      taken("a session token outside of any organisation", by({ o: undefined }), { user_id: claims.sub, roles: "" }),
      refused("a session token of another page", another, "token_audience_invalid"),
      refused("a session token without azp", by({ azp: undefined }), "token_audience_invalid"),
      refused("a session that is pending", by({ sts: "pending" }), "token_requirement_unmet"),
    ],
  };
}

function cloudflareAccess(now) {
  const iss = "https://shop.cloudflareaccess.com";
  const id = "1a1c3986a44ce6390be42ec772b031df8f433fdc71716db8";
  const [key, previous] = [makeKey("RS256", `${id}821dc0c484c3b7c9`), makeKey("RS256", `${id}6a5b4c3d2e1f0a9b`)];
  const claims = {
    aud: ["32eafc7626e974616deaf0dc3ce63d7bcbed58a2731e84d06bc3cdf1b53c4228"],
    email: "ada@example.com",
    exp: now + 86_400,
    iat: now,
    nbf: now,
    iss,
    type: "app",
    identity_nonce: "6ei69kawdKzMIAPF",
    sub: OWNER,
    country: "DE",
  };
  // Of a machine with a service token.
  const machine = {
    ...{ email: undefined, nbf: undefined, identity_nonce: undefined, country: undefined, sub: "" },
    ...{ common_name: "e367826f93b8d71185e03fe518aff3b4.access", aud: claims.aud[0] },
  };
  const by = (changes) => key.sign({ ...claims, ...changes });
  const user = { user_id: OWNER, email: claims.email, roles: "" };
  const certs = { ...JSON.parse(keySet([key, previous])), public_cert: { kid: "k", cert: "c" }, public_certs: [] };
  return {
    name: "cloudflare-access",
    header: "cf-access-jwt-assertion",
    documents: { [`${iss}/cdn-cgi/access/certs`]: JSON.stringify(certs) },
    cases: [
      taken("an application token", by({}), user),
      taken("an application token of the previous key", previous.sign(claims), user),
      refused("a token of another application", by({ aud: ["0".repeat(64)] }), "token_audience_invalid"),
      refused("the token of the session with Access", by({ type: "org" }), "token_requirement_unmet"),
      refused("a token of another team", by({ iss: "https://other.cloudflareaccess.com" }), "token_issuer_unknown"),
      refused("a token of a machine", by(machine), "token_identity_invalid"),
    ],
  };
}

function cognito(now) {
  const iss = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_A1b2C3d4E";
  const ids = makeKey("RS256", "1example/Key+of/ID+tokens/0000000000000000000=");
  const key = makeKey("RS256", "2example/Key+of/access+tokens/00000000000000=");
  const client = "3example23456789abcdefghij";
  const claims = {
    sub: OWNER,
    "cognito:groups": ["admins", "eu-central-1_A1b2C3d4E_Google"],
    iss,
    version: 2,
    client_id: client,
    origin_jti: "7d1c5a3e-0b1c-4d2e-8f3a-4b5c6d7e8f90",
    event_id: "0f9e8d7c-6b5a-4c3d-9e2f-1a0b9c8d7e6f",
    token_use: "access",
    scope: "aws.cognito.signin.user.admin openid",
    auth_time: now,
    exp: now + 3600,
    iat: now,
    jti: "5a4b3c2d-1e0f-4a9b-8c7d-6e5f4a3b2c1d",
    username: "ada",
  };
  const idToken = {
    ...{ sub: OWNER, email_verified: true, iss, "cognito:username": "ada", aud: client, token_use: "id" },
    ...{ auth_time: now, exp: now + 3600, iat: now, email: "ada@example.com" },
  };
  const untyped = { typ: undefined };
  const by = (changes) => key.sign({ ...claims, ...changes }, untyped);
  const ofClient = ids.sign({ ...idToken, client_id: client }, untyped);
  const roles = "admins,eu-central-1_A1b2C3d4E_Google";
  return {
    name: "cognito",
    documents: serve(iss, `${iss}/.well-known/jwks.json`, [ids, key]),
    cases: [
      taken("an access token", by({}), { user_id: OWNER, roles }),
      taken("an access token of a user in no group", by({ "cognito:groups": undefined }), {
        user_id: OWNER,
        roles: "",
      }),
      refused("an ID token", ids.sign(idToken, untyped), "token_audience_invalid"),
      refused("an ID token that names the client as access tokens do", ofClient, "token_requirement_unmet"),
      refused("an access token of another client", by({ client_id: "4example" }), "token_audience_invalid"),
    ],
  };
}

const entraClaims = (now, tid, changes = {}) => ({
  aud: "5c6d7e8f-0a1b-4c2d-8e3f-4a5b6c7d8e9f",
  iss: `https://login.microsoftonline.com/${tid}/v2.0`,
  // Issued five minutes in the past, and valid for 60 to 90 minutes.
  iat: now - 300,
  nbf: now - 300,
  exp: now + 5100,
  aio: "AXQAi/8TAAAA",
  azp: "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9",
  azpacr: "1",
  name: "Ada Lovelace",
  oid: OWNER,
  preferred_username: "ada@shop.example",
  rh: "0.AXQA",
  roles: ["Orders.Admin"],
  scp: "orders.read orders.write",
  sid: "001f5c6d-0000-4000-8000-7e8f0a1b2c3d",
  sub: "pairwiseSubjectOfThisApplicationAlone0000000",
  tid,
  uti: "kRzAUtiTokenIdentifier",
  ver: "2.0",
  ...changes,
});

// Keys without `alg`, with a certificate.
const entraKey = (kid, issuer) => makeKey("RS256", kid, { alg: undefined, x5t: kid, x5c: [certificate()], issuer });

function entraId(now) {
  const iss = `https://login.microsoftonline.com/${TENANT}/v2.0`;
  const all = Array.from({ length: 12 }, (_, index) => entraKey(`entraKeyOfOneTenant-${index}`, iss));
  const by = (changes, tid = TENANT) => all.at(-1).sign(entraClaims(now, tid, changes));
  // A machine: no scopes, no user.
  const machine = {
    ...{ scp: undefined, preferred_username: undefined, name: undefined, sid: undefined, idtyp: "app" },
    ...{ oid: CUSTOMERS[0], sub: CUSTOMERS[0], roles: ["Orders.Read.All"] },
  };
  const groups = Array.from({ length: 200 }, () => crypto.randomUUID());
  const graph = by({ aud: "00000003-0000-0000-c000-000000000000" });
  const admin = { user_id: OWNER, roles: "Orders.Admin" };
  return {
    name: "entra-id",
    documents: serve(iss, `https://login.microsoftonline.com/${TENANT}/discovery/v2.0/keys`, all, {
      more: { tenant_region_scope: "EU", cloud_instance_name: "microsoftonline.com" },
    }),
    cases: [
      taken("an access token", by({}), admin),
      taken("an access token of a machine", by(machine), { user_id: CUSTOMERS[0], roles: "Orders.Read.All" }),
      taken("an access token with 200 groups", by({ groups }), admin),
      refused("a token for Microsoft Graph", graph, "token_audience_invalid"),
      refused("a token of another tenant", by({}, STRANGER), "token_issuer_unknown"),
    ],
  };
}

function entraIdTenants(now) {
  const issuer = (tid) => `https://login.microsoftonline.com/${tid}/v2.0`;
  const keys = "https://login.microsoftonline.com/common/discovery/v2.0/keys";
  const shared = entraKey("entraKeyOfAllTenants", issuer("{tenantid}"));
  const theirs = entraKey("entraKeyOfOneCustomer", issuer(CUSTOMERS[1]));
  const consumers = entraKey("entraKeyOfConsumers", issuer("9188040d-6c67-4c5b-b112-36a304b66dad"));
  const by = (key, tid, changes) => key.sign(entraClaims(now, tid, { aud: "api://shop", ...changes }));
  const [first, second] = CUSTOMERS;
  const ofAnother = by(shared, first, { tid: second });
  const admin = { user_id: OWNER, roles: "Orders.Admin" };
  return {
    name: "entra-id-tenants",
    documents: serve(issuer("{tenantid}"), keys, [consumers, shared, theirs], {
      at: `${issuer("common")}${DISCOVERY}`,
    }),
    cases: [
      taken("a token of the first customer", by(shared, first), admin),
      taken("a token of the second customer", by(shared, second), admin),
      taken("a token of the second customer, by its own key", by(theirs, second), admin),
      refused("a token of a stranger's tenant", by(shared, STRANGER), "token_issuer_unknown"),
      refused("a token of the template itself", by(shared, "{tenantid}"), "token_issuer_unknown"),
      refused("a token of no tenant", by(shared, ""), "token_issuer_unknown"),
      refused("a token whose tid is another tenant's", ofAnother, "token_requirement_unmet"),
      refused("a token of one customer by the key of another", by(theirs, first), "token_key_unknown"),
      refused("a token of a customer by the key of consumers", by(consumers, first), "token_key_unknown"),
    ],
  };
}

function firebase(now) {
  const iss = "https://securetoken.google.com/shop-project";
  const jwks = "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com";
  const key = makeKey("RS256", "f81267e4c9a05a7d1b3c5e8f90123456789abcde");
  const next = makeKey("RS256", "0a4e3b2c1d0f9e8d7c6b5a4f3e2d1c0b9a8f7e6d");
  const claims = {
    name: "Ada",
    iss,
    aud: "shop-project",
    auth_time: now - 60,
    user_id: "Zk3nQ1bX9cYh5ExampleUser0001",
    sub: "Zk3nQ1bX9cYh5ExampleUser0001",
    iat: now,
    exp: now + 3600,
    email: "ada@example.com",
    email_verified: true,
    firebase: { identities: { email: ["ada@example.com"] }, sign_in_provider: "password" },
  };
  const phone = {
    ...{ name: undefined, email: undefined, email_verified: undefined, phone_number: "+4915100000000" },
    firebase: { identities: { phone: ["+4915100000000"] }, sign_in_provider: "phone" },
  };
  const by = (changes) => key.sign({ ...claims, ...changes });
  const cookie = by({ iss: "https://session.firebase.google.com/shop-project" });
  const { sub: user_id, email } = claims;
  return {
    name: "firebase",
    documents: serve(iss, jwks, [next, key]),
    cases: [
      taken("an ID token", by({}), { user_id, email, roles: "" }),
      taken("an ID token of an account with a phone number alone", by(phone), { user_id, roles: "" }),
      taken("an ID token with roles of the shop's own", by({ roles: "admin" }), { user_id, email, roles: "admin" }),
      refused("an ID token of another project", by({ aud: "other-project" }), "token_audience_invalid"),
      refused("a session cookie", cookie, "token_issuer_unknown"),
    ],
  };
}

function google(now) {
  const iss = "https://accounts.google.com";
  const jwks = "https://www.googleapis.com/oauth2/v3/certs";
  const key = makeKey("RS256", "c8ab71530972bba20b49f78a09c9852c43ff9118");
  const next = makeKey("RS256", "1dc0f172e8d6ef382d6d3a231f6c197dd68ce5ef");
  const aud = "407408718192-example.apps.googleusercontent.com";
  const claims = {
    iss,
    azp: aud,
    aud,
    sub: "110169484474386276334",
    hd: "shop.example",
    email: "ada@shop.example",
    email_verified: true,
    at_hash: "HK6E_P6Dh8Y93mRNtsDB1Q",
    name: "Ada Lovelace",
    picture: "https://lh3.googleusercontent.com/a/example",
    iat: now,
    exp: now + 3600,
  };
  const by = (changes) => key.sign({ ...claims, ...changes });
  const another = by({ aud: "1-other.apps.googleusercontent.com" });
  return {
    name: "google",
    documents: serve(iss, jwks, [next, key]),
    cases: [
      taken("an ID token", by({}), { user_id: claims.sub, email: claims.email, roles: "" }),
      refused("an ID token for another application", another, "token_audience_invalid"),
      refused("an ID token of a user outside of the company", by({ hd: undefined }), "token_requirement_unmet"),
    ],
  };
}

function googleIap(now) {
  const iss = "https://cloud.google.com/iap";
  const key = makeKey("ES256", "0oeLcQ");
  const aud = "/projects/123456789012/global/backendServices/1234567890123456789";
  const claims = {
    aud,
    azp: aud,
    email: "ada@shop.example",
    exp: now + 600,
    google: { access_levels: ["accessPolicies/1/accessLevels/office"] },
    hd: "shop.example",
    iat: now,
    identity_source: "GOOGLE",
    iss,
    sub: "accounts.google.com:110169484474386276334",
  };
  const by = (changes) => key.sign({ ...claims, ...changes });
  const another = by({ aud: aud.replace(/.$/, "0") });
  return {
    name: "google-iap",
    header: "x-goog-iap-jwt-assertion",
    documents: { "https://www.gstatic.com/iap/verify/public_key-jwk": keySet([key]) },
    cases: [
      taken("an assertion", by({}), { user_id: claims.sub, email: claims.email, roles: "" }),
      refused("an assertion for another service", another, "token_audience_invalid"),
      refused("an assertion of an hour", by({ exp: now + 3600 }), "token_lifetime_too_long"),
    ],
  };
}

function keycloak(now) {
  const iss = "https://id.shop.example/realms/shop";
  const members = (x5t, x5tS256) => ({ x5c: [certificate()], x5t, "x5t#S256": x5tS256 });
  const key = makeKey("RS256", "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE", members("a", "b"));
  const encryption = makeKey("RS256", "b6Yz1sbXPKLYR2bqKcUeNsPbVlDeLxmqcQ8eBvWvO3k", {
    ...members("c", "d"),
    use: "enc",
    alg: "RSA-OAEP",
  });
  const claims = {
    exp: now + 300,
    iat: now,
    auth_time: now - 5,
    jti: "onrtac:2f61d1a5-3d1c-4f5e-9a6b-7c8d9e0f1a2b",
    iss,
    aud: ["shop-api", "account"],
    sub: OWNER,
    typ: "Bearer",
    azp: "shop-web",
    sid: "e1f2a3b4-c5d6-4e7f-8091-a2b3c4d5e6f7",
    acr: "1",
    "allowed-origins": ["https://app.shop.example"],
    realm_access: { roles: ["offline_access", "default-roles-shop", "admin"] },
    resource_access: { account: { roles: ["manage-account", "view-profile"] } },
    scope: "openid profile email",
    email_verified: true,
    name: "Ada Lovelace",
    preferred_username: "ada",
    email: "ada@example.com",
  };
  const by = (changes) => key.sign({ ...claims, ...changes });
  // From LDAP: distinguished names, with commas in them.
  const ldap = by({ realm_access: { roles: ["CN=admins,OU=groups,DC=shop,DC=example"] } });
  const escaped = "CN=admins%2COU=groups%2CDC=shop%2CDC=example";
  const another = by({ iss: "https://id.shop.example/realms/other" });
  const user = { user_id: OWNER, email: claims.email };
  return {
    name: "keycloak",
    documents: serve(iss, `${iss}/protocol/openid-connect/certs`, [encryption, key]),
    cases: [
      taken("an access token", by({}), { ...user, roles: "offline_access,default-roles-shop,admin" }),
      taken("an access token with groups of LDAP", ldap, { ...user, roles: escaped }),
      refused("an ID token", by({ typ: "ID", aud: "shop-api" }), "token_requirement_unmet"),
      refused("a refresh token", by({ typ: "Refresh" }), "token_requirement_unmet"),
      refused("an access token for the account pages alone", by({ aud: "account" }), "token_audience_invalid"),
      refused("a token of another realm", another, "token_issuer_unknown"),
    ],
  };
}

function kubernetes(now) {
  const iss = "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
  const key = makeKey("RS256", "38b0be1e5cfa2a9d38a3c3d8a1e2f3c4b5d6e7f8");
  const claims = {
    aud: ["gateway"],
    exp: now + 3600,
    iat: now,
    iss,
    jti: "c3d2e1f0-a9b8-4c7d-8e6f-5a4b3c2d1e0f",
    "kubernetes.io": {
      namespace: "shop",
      node: { name: "ip-10-0-1-2", uid: "11111111-2222-4333-8444-555555555555" },
      pod: { name: "orders-6b9f", uid: "66666666-7777-4888-8999-aaaaaaaaaaaa" },
      serviceaccount: { name: "orders", uid: "bbbbbbbb-cccc-4ddd-8eee-ffffffffffff" },
    },
    nbf: now,
    sub: "system:serviceaccount:shop:orders",
  };
  const by = (changes) => key.sign({ ...claims, ...changes }, { typ: undefined });
  const sub = `system:serviceaccount:${"n".repeat(63)}:${"s".repeat(253)}`;
  const internal = by({ aud: ["https://kubernetes.default.svc"] });
  return {
    name: "kubernetes",
    documents: serve(iss, `${iss}/keys`, [key]),
    cases: [
      taken("a projected token of a service account", by({}), { user_id: claims.sub, roles: "" }),
      taken("one with names as long as they may be", by({ sub }), { user_id: sub, roles: "" }),
      refused("a token for the cluster's own API", internal, "token_audience_invalid"),
    ],
  };
}

function okta(now) {
  const iss = "https://shop.okta.com/oauth2/default";
  const key = makeKey("RS256", "rGr3PQ6Nf2EcR0q7tTgYVnC6O1mJk0sYjC1d5Xn1Zfg");
  const claims = {
    ver: 1,
    jti: "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
    iss,
    aud: "api://default",
    iat: now,
    exp: now + 3600,
    cid: "0oab1cDEfGHiJkLmN5d7",
    uid: "00ub1cDEfGHiJkLmN5d7",
    scp: ["openid", "orders.read"],
    auth_time: now - 20,
    sub: "ada@shop.example",
    groups: ["Everyone", "Order Admins"],
  };
  const by = (changes) => key.sign({ ...claims, ...changes }, { typ: undefined });
  const machine = by({ uid: undefined, groups: undefined, sub: claims.cid, scp: ["orders.read"] });
  const ofOrganisation = by({ iss: "https://shop.okta.com", aud: "https://shop.okta.com" });
  return {
    name: "okta",
    documents: serve(iss, `${iss}/v1/keys`, [key]),
    cases: [
      taken("an access token", by({}), { user_id: claims.sub, roles: "Everyone,Order Admins" }),
      taken("an access token of a machine", machine, { user_id: claims.cid, roles: "" }),
      refused("an ID token", by({ scp: undefined, aud: claims.cid }), "token_audience_invalid"),
      refused("a token of the organisation's own server", ofOrganisation, "token_issuer_unknown"),
    ],
  };
}

function supabase(now) {
  const iss = "https://abcdefghijklmnopqrst.supabase.co/auth/v1";
  const members = { key_ops: ["verify"], ext: true };
  const key = makeKey("ES256", "4e0b7a51-1f2c-4c3d-9a8b-7c6d5e4f3a2b", members);
  const older = makeKey("RS256", "a1b2c3d4-5e6f-4708-8192-a3b4c5d6e7f8", members);
  const claims = {
    iss,
    sub: OWNER,
    aud: "authenticated",
    exp: now + 3600,
    iat: now,
    email: "ada@example.com",
    phone: "",
    app_metadata: { provider: "email", providers: ["email"] },
    user_metadata: { email_verified: true },
    role: "authenticated",
    aal: "aal1",
    amr: [{ method: "password", timestamp: now }],
    session_id: "d0c1b2a3-9485-4766-8758-493a2b1c0d9e",
    is_anonymous: false,
  };
  const phone = {
    ...{ email: "", phone: "4915100000000", app_metadata: { provider: "phone", providers: ["phone"] } },
    amr: [{ method: "otp", timestamp: now }],
  };
  const by = (changes) => key.sign({ ...claims, ...changes });
  const user = { user_id: OWNER, roles: "authenticated" };
  const { email } = claims;
  return {
    name: "supabase",
    documents: { [`${iss}/.well-known/jwks.json`]: keySet([key, older]) },
    cases: [
      taken("an access token", by({}), { ...user, email }),
      taken("an access token of an account with a phone number alone", by(phone), user),
      taken("an access token of the RSA key", older.sign(claims), { ...user, email }),
      refused("an anonymous key of the project", by({ aud: "anon", role: "anon" }), "token_audience_invalid"),
      refused("a token of another project", by({ iss: "https://other.supabase.co/auth/v1" }), "token_issuer_unknown"),
    ],
  };
}

// The identity that the service receives; the e-mail address is optional.
function taken(name, token, { user_id, email = null, roles }) {
  return { name, token, expected: "ok", user_id, email, roles };
}

function refused(name, token, expected) {
  return { name, token, expected };
}
