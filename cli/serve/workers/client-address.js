// Who the client is. The peer of the connection counts, and a header only if the peer is a trusted proxy.

// Groups of 16 bits of an IPv6 address; an IPv4 address is the last two of ::ffff:0:0/96 (RFC 4291, section 2.5.5.2).
const GROUPS = 8;
const GROUP_BITS = 16;
const V4_PREFIX_BITS = 96;
const V4_BITS = 32;

// More proxies than any chain has. A longer header is the client's own.
const MAX_HOPS = 16;

/**
 * @typedef {number[]} Address eight groups
 * @typedef {{ address: Address, bits: number }} Network
 */

/**
 * @param {string} text
 * @returns {[number, number] | undefined}
 */
function parseV4(text) {
  const found = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (found === null) return undefined;
  const bytes = found.slice(1).map(Number);
  if (bytes.some((byte) => byte > 255)) return undefined;
  return [bytes[0] * 256 + bytes[1], bytes[2] * 256 + bytes[3]];
}

/**
 * Parses an IP address without a port or a zone.
 * @param {string} text
 * @returns {Address | undefined}
 */
export function parseAddress(text) {
  const v4 = parseV4(text);
  if (v4 !== undefined) return [0, 0, 0, 0, 0, 0xffff, ...v4];
  if (!/^[0-9a-f:.]{2,45}$/i.test(text)) return undefined;
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map(parseGroups);
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  if (tail === undefined) return head.length === GROUPS ? head : undefined;
  const gap = GROUPS - head.length - tail.length;
  return gap < 1 ? undefined : [...head, ...new Array(gap).fill(0), ...tail];
}

/**
 * @param {string} text
 * @returns {number[] | undefined}
 */
function parseGroups(text) {
  if (text === "") return [];
  const parts = text.split(":");
  const last = parts.length - 1;
  const groups = parts.flatMap((part, index) => {
    const v4 = index === last ? parseV4(part) : undefined;
    return v4 ?? (/^[0-9a-f]{1,4}$/i.test(part) ? [Number.parseInt(part, 16)] : [Number.NaN]);
  });
  return groups.some(Number.isNaN) ? undefined : groups;
}

/**
 * Parses an address or a network in CIDR notation.
 * @param {string} text
 * @returns {Network | undefined}
 */
export function parseNetwork(text) {
  const [host, length, ...rest] = text.split("/");
  const address = parseAddress(host);
  if (address === undefined || rest.length > 0) return undefined;
  const isV4 = parseV4(host) !== undefined;
  const most = isV4 ? V4_BITS : GROUPS * GROUP_BITS;
  if (length !== undefined && (!/^\d{1,3}$/.test(length) || Number(length) > most)) return undefined;
  const bits = (length === undefined ? most : Number(length)) + (isV4 ? V4_PREFIX_BITS : 0);
  return { address, bits };
}

/**
 * @param {Network} network
 * @param {Address} address
 */
function contains({ address: base, bits }, address) {
  for (let index = 0; index < GROUPS; index += 1) {
    const left = bits - index * GROUP_BITS;
    if (left <= 0) return true;
    const shift = Math.max(0, GROUP_BITS - left);
    if (base[index] >> shift !== address[index] >> shift) return false;
  }
  return true;
}

/**
 * Writes an address in the form that `parseAddress` reads; IPv4 in its own.
 * @param {Address} address
 */
function write(address) {
  const isV4 = address[5] === 0xffff && address.slice(0, 5).every((group) => group === 0);
  if (!isV4) return address.map((group) => group.toString(16)).join(":");
  return [address[6] >> 8, address[6] & 255, address[7] >> 8, address[7] & 255].join(".");
}

/**
 * Parses an address that may have a port, as workerd and proxies write it: `192.0.2.1:80`, `[2001:db8::1]:80`.
 * @param {string} text
 */
function parseHop(text) {
  const bracketed = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(text);
  if (bracketed !== null) return parseAddress(bracketed[1]);
  return parseAddress(/^[\d.]+:\d{1,5}$/.test(text) ? text.slice(0, text.indexOf(":")) : text);
}

/**
 * Returns the client's address, and whether the peer is a trusted proxy. `peer` is the address of the connection as workerd
 * writes it. Without one, as at a Unix socket, the client is unknown and no header counts. The address is the last one in
 * X-Forwarded-For that is no trusted proxy: each proxy appends its peer, so what is before it may be the client's invention.
 * @param {string | undefined} peer
 * @param {string | null} forwardedFor
 * @param {Network[]} trusted
 * @returns {{ address: string | undefined, isTrusted: boolean }}
 */
export function clientOf(peer, forwardedFor, trusted) {
  const own = peer === undefined ? undefined : parseHop(peer);
  const isProxy = (/** @type {Address} */ address) => trusted.some((network) => contains(network, address));
  if (own === undefined || !isProxy(own)) return { address: own && write(own), isTrusted: false };
  let nearest = own;
  const hops = (forwardedFor ?? "").split(",").slice(-MAX_HOPS);
  for (const hop of hops.reverse()) {
    const address = parseHop(hop.trim());
    // Text that is no address says nothing about what is before it either.
    if (address === undefined) break;
    nearest = address;
    if (!isProxy(address)) break;
  }
  return { address: write(nearest), isTrusted: true };
}
