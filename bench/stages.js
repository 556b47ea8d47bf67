// What is compared by CPU time: in each table, Workers of which each does one thing more than the one before, then the
// gateway and what it is compared with.

import { SERVERS, workerOf } from "./servers.js";

const known = (name) => SERVERS.find((server) => server.name === name);

// The gateway's JavaScript, step by step.
const stepOf = (step, title) => workerOf(`step-${step}`, title, { file: "steps", texts: { STEP: step } });

const checkOf = (step, title) => workerOf(`check-${step}`, title, { file: "checked", texts: { STEP: step } });

const refusalOf = (step, title, CHECKS) =>
  workerOf(`refusal-${step}`, title, { file: "refuser", texts: { STEP: step, CHECKS }, limits: ["FAILED"] });

const refusals = (CHECKS) => [
  refusalOf("answer", CHECKS ? "the signature checked, and a problem document" : "a problem document", CHECKS),
  refusalOf("log", "and the log line", CHECKS),
  refusalOf("audit", "and the audit event", CHECKS),
  refusalOf("count", "and the count of the client's refused tokens", CHECKS),
];

/** What all CPU times are ratios to. */
export const PASS = known("pass");

// `profile` is that of the requests. Each row of `steps` follows the one before; those of `apart` do not.
export const TABLES = [
  {
    profile: "remembered",
    steps: [
      stepOf("fetch", "`fetch` of the URL, without headers"),
      stepOf("headers", "and the gateway's nine headers"),
      stepOf("read", "and the client's headers, read and passed on"),
      stepOf("cache", "and the platform's cache off"),
      stepOf("timer", "and a time limit"),
      stepOf("answer", "and an answer with two more headers"),
      stepOf("log", "and a log line of each tenth request"),
      known("glue"),
      known("gateway"),
    ],
    apart: [known("jose")],
  },
  {
    profile: "distinct",
    steps: [
      checkOf("signature", "pass-through and a check of the signature"),
      checkOf("claims", "and header and claims, read"),
      known("gateway"),
    ],
    apart: [known("glue"), known("jose"), known("hono")],
  },
  {
    profile: "hostile-signature",
    steps: [...refusals("true"), known("gateway")],
    apart: [known("jose"), known("hono")],
  },
  { profile: "hostile-kid", steps: [...refusals(""), known("gateway")], apart: [known("jose"), known("hono")] },
  {
    profile: "upload",
    steps: [workerOf("whole", "the body read completely, then passed on"), known("gateway")],
    apart: [known("jose")],
  },
];
