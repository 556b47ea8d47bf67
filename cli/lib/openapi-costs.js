// Finds schemas whose check can cost more than in proportion to the body: attackers choose bodies.

import { isObject, memberOf, pathOf } from "./openapi.js";

/**
 * A step into a value: to the item or member `key`, or to all that `except` and `from` leave.
 * @typedef {{ isItem: boolean, key?: string | number, except?: Set<string>, from?: number }} Label
 * @typedef {Label & { to: any }} Step
 * @typedef {{ schema: any, message: string }} Costly
 */

// Schemas that apply to one value. A `oneOf` of hundreds has fewer.
const APPLIED = 10_000;

// Pairs of schemas that refer to each other, and steps between pairs: about a second.
const PAIRS = 200_000;
const PAIR_STEPS = 2_000_000;

// Items that are compared with each other.
const COMPARED_ITEMS = 200;

/** @type {any} */
const SCALARS = { string: "string", number: "number", boolean: "boolean" };

/**
 * Returns the first schema of `roots`, and of what they refer to, whose check costs too much. `document` is what
 * references lead into. Adds the type of scalar items to arrays with `uniqueItems`: ajv compares others in pairs.
 * @param {any} document
 * @param {any[]} roots
 * @returns {Costly | undefined}
 */
export function findCostly(document, roots) {
  /** @type {Costly | undefined} */
  let costly;
  /** @param {any} schema @param {string} message */
  const report = (schema, message) => {
    costly ??= { schema, message };
  };
  /** @type {any[]} */
  const schemas = [];
  /** @type {Map<any, number>} */
  const numbers = new Map();
  /** @param {any} schema */
  const numberOf = (schema) => {
    const known = numbers.get(schema) ?? schemas.push(schema) - 1;
    numbers.set(schema, known);
    return known;
  };
  for (const root of roots) if (isObject(root)) numberOf(root);
  /** @type {(Label & { to: number })[][]} */
  const graph = [];
  for (let index = 0; index < schemas.length && costly === undefined; index += 1) {
    const steps = stepsFrom(document, schemas[index], report);
    graph.push(steps.map((step) => ({ ...step, to: numberOf(step.to) })));
  }
  return costly ?? findExponential(schemas, graph);
}

/**
 * Returns the steps of all schemas that apply to the same value as one.
 * @param {any} document
 * @param {any} start
 * @param {(schema: any, message: string) => void} report
 */
function stepsFrom(document, start, report) {
  /** @type {Step[]} */
  const steps = [];
  const open = new Set();
  let count = 0;
  /** @param {any} schema */
  const visit = (schema) => {
    count += 1;
    if (open.has(schema))
      return report(schema, "the schema refers to itself for the same value, so its check would not end");
    if (count > APPLIED) return report(start, `more than ${APPLIED} schemas apply to one value`);
    open.add(schema);
    const scalars = scalarsOf(document, schema.items);
    if (schema.uniqueItems === true && scalars !== undefined && schema.items.type === undefined)
      schema.items.type = scalars;
    if (schema.uniqueItems === true && scalars === undefined && !(schema.maxItems <= COMPARED_ITEMS))
      report(
        schema,
        `uniqueItems of arrays or objects needs maxItems of ${COMPARED_ITEMS} or less: all are compared in pairs`,
      );
    steps.push(...ownSteps(schema));
    for (const other of applied(document, schema)) visit(other);
    open.delete(schema);
    return undefined;
  };
  visit(start);
  return steps;
}

/**
 * Returns the schemas that a schema applies to the same value.
 * @param {any} document
 * @param {any} schema
 */
function applied(document, schema) {
  const { $ref, allOf, anyOf, oneOf, not, dependentSchemas = {}, dependencies = {} } = schema;
  const target = $ref === undefined ? undefined : targetOf(document, $ref);
  const branches = [not, schema.if, schema.then, schema.else];
  const lists = [allOf, anyOf, oneOf, branches, Object.values(dependentSchemas), Object.values(dependencies)];
  return [target, ...lists.flat()].filter(isObject);
}

/**
 * @param {any} document
 * @param {string} reference
 */
function targetOf(document, reference) {
  let next = document;
  for (const name of pathOf(decodeURIComponent(reference.slice(reference.indexOf("#") + 1))))
    next = Array.isArray(next) ? next[Number(name)] : memberOf(next, name);
  return next;
}

/**
 * Returns the steps of a schema to members and items.
 * @param {any} schema
 * @returns {Step[]}
 */
function ownSteps(schema) {
  const { properties = {}, patternProperties = {}, prefixItems = [] } = schema;
  const except = new Set(Object.keys(properties));
  const steps = [
    ...Object.entries(properties).map(([key, to]) => ({ isItem: false, key, to })),
    ...Object.values(patternProperties).map((to) => ({ isItem: false, to })),
    { isItem: false, except, to: schema.additionalProperties },
    { isItem: false, except, to: schema.unevaluatedProperties },
    ...prefixItems.map((/** @type {any} */ to, /** @type {number} */ key) => ({ isItem: true, key, to })),
    { isItem: true, from: prefixItems.length, to: schema.items },
    { isItem: true, from: prefixItems.length, to: schema.unevaluatedItems },
    { isItem: true, to: schema.contains },
    // A name is a string, which has neither members nor items.
    { isItem: false, except, to: schema.propertyNames },
  ];
  return steps.filter(({ to }) => isObject(to));
}

/**
 * Returns the types of a schema that allows neither arrays nor objects.
 * @param {any} document
 * @param {any} schema
 * @param {Set<any>} [seen]
 * @returns {string[] | undefined}
 */
function scalarsOf(document, schema, seen = new Set()) {
  if (!isObject(schema) || seen.has(schema)) return undefined;
  seen.add(schema);
  const { type, enum: values, $ref, allOf = [] } = schema;
  if (type !== undefined) {
    const types = [type].flat();
    return types.includes("object") || types.includes("array") ? undefined : types;
  }
  if (Array.isArray(values)) {
    const types = new Set(values.map((value) => (value === null ? "null" : SCALARS[typeof value])));
    return types.has(undefined) ? undefined : [...types];
  }
  const others = [...($ref === undefined ? [] : [targetOf(document, $ref)]), ...allOf];
  return others.map((one) => scalarsOf(document, one, seen)).find(Boolean);
}

/**
 * Returns a schema that is applied to values twice as often with each level: two ways lead from it to itself by the
 * same members and items. That is the exponential ambiguity of an automaton (Weber and Seidl, 1991), found in its square.
 * @param {any[]} schemas
 * @param {(Label & { to: number })[][]} graph
 * @returns {Costly | undefined}
 */
function findExponential(schemas, graph) {
  const component = componentsOf(graph.map((steps) => steps.map(({ to }) => to)));
  const within = graph.map((steps, from) => steps.filter(({ to }) => component[to] === component[from]));
  /** @type {[number, number][]} */
  const pairs = [];
  /** @type {Map<number, number>} */
  const numbers = new Map();
  /** @param {number} one @param {number} other */
  const numberOf = (one, other) => {
    const key = one * graph.length + other;
    const known = numbers.get(key) ?? pairs.push([one, other]) - 1;
    numbers.set(key, known);
    return known;
  };
  for (const [index, steps] of within.entries()) if (steps.length > 0) numberOf(index, index);
  /** @type {number[][]} */
  const square = [];
  /** @type {[number, number][]} */
  const forks = [];
  let count = 0;
  for (let index = 0; index < pairs.length; index += 1) {
    const [one, other] = pairs[index];
    const next = new Set();
    for (const [at, step] of within[one].entries()) {
      for (const [otherAt, otherStep] of within[other].entries()) {
        count += 1;
        if (!meet(step, otherStep)) continue;
        const to = numberOf(step.to, otherStep.to);
        next.add(to);
        if (one === other && at !== otherAt) forks.push([index, to]);
      }
    }
    square.push([...next]);
    if (pairs.length > PAIRS || count > PAIR_STEPS)
      return { schema: schemas[one], message: "too many schemas refer to each other to know what a check costs" };
  }
  const squared = componentsOf(square);
  const fork = forks.find(([from, to]) => squared[from] === squared[to]);
  if (fork === undefined) return undefined;
  const message =
    "several alternatives lead to this schema again by the same members, so the cost of a check doubles with each level";
  return { schema: schemas[pairs[fork[0]][0]], message };
}

/**
 * Whether two steps can lead to the same value.
 * @param {Label} one
 * @param {Label} other
 */
const meet = (one, other) => one.isItem === other.isItem && fits(one, other.key) && fits(other, one.key);

/**
 * @param {Label} label
 * @param {string | number | undefined} key
 */
function fits({ key: own, except, from = 0 }, key) {
  if (key === undefined) return true;
  if (own !== undefined) return own === key;
  return typeof key === "number" ? key >= from : !except?.has(key);
}

/**
 * Returns the number of each node's strongly connected component (Tarjan, 1972), without recursion.
 * @param {number[][]} graph
 */
function componentsOf(graph) {
  /** @type {number[]} */
  const order = [];
  /** @type {number[]} */
  const low = [];
  /** @type {number[]} */
  const component = [];
  /** @type {number[]} */
  const open = [];
  let [clock, count] = [0, 0];
  /** @param {number} node */
  const enter = (node) => {
    order[node] = clock;
    low[node] = clock;
    clock += 1;
    open.push(node);
    return { node, at: 0 };
  };
  for (const start of graph.keys()) {
    if (order[start] !== undefined) continue;
    const path = [enter(start)];
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const { node } = top;
      const to = graph[node][top.at];
      top.at += 1;
      if (to !== undefined) {
        if (order[to] === undefined) path.push(enter(to));
        else if (component[to] === undefined) low[node] = Math.min(low[node], order[to]);
        continue;
      }
      path.pop();
      const above = path.at(-1);
      if (above !== undefined) low[above.node] = Math.min(low[above.node], low[node]);
      if (low[node] !== order[node]) continue;
      for (let last = open.pop(); last !== undefined; last = last === node ? undefined : open.pop())
        component[last] = count;
      count += 1;
    }
  }
  return component;
}
