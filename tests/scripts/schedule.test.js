// Which tasks run in parallel, and in which order.

import assert from "node:assert/strict";
import { test } from "node:test";

import { runInLanes } from "../../scripts/lib/schedule.js";

// Runs tasks that each take `turns` ticks of a clock, and returns what happened.
async function run(tasks, lanes) {
  const said = [];
  const working = new Set();
  let most = 0;
  await runInLanes(
    tasks.map(({ turns = 1, fails, ...task }) => ({
      ...task,
      async run() {
        said.push(`+${task.name}`);
        working.add(task.name);
        most = Math.max(most, working.size);
        for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
        working.delete(task.name);
        if (fails) throw new Error(`${task.name} failed`);
        said.push(`-${task.name}`);
      },
    })),
    lanes,
  );
  return { order: said.join(" "), most };
}

for (const [title, lanes, tasks, expected] of [
  ["in one lane one after another", 1, [{ name: "a" }, { name: "b" }], "+a -a +b -b"],
  [
    "in two lanes as soon as one is free",
    2,
    [{ name: "a", turns: 9 }, { name: "b" }, { name: "c" }],
    "+a +b -b +c -c -a",
  ],
  [
    "not before what they need, while what needs nothing goes ahead",
    2,
    [{ name: "a", turns: 3 }, { name: "b", after: ["a"] }, { name: "c" }],
    "+a +c -c -a +b -b",
  ],
  ["without what was not chosen", 1, [{ name: "b", after: ["a"] }], "+b -b"],
  [
    "never two that hold the same thing",
    2,
    [
      { name: "a", holds: ["x"], turns: 3 },
      { name: "b", holds: ["x", "y"] },
      { name: "c", holds: ["z"] },
    ],
    "+a +c -c -a +b -b",
  ],
]) {
  test(`tasks run ${title}`, async () => {
    const { order, most } = await run(tasks, lanes);
    assert.equal(order, expected);
    assert.ok(most <= lanes);
  });
}

test("no task begins after one has failed, and the first error is thrown", async () => {
  const began = [];
  const task = (name, error) => ({
    name,
    run: async () => {
      began.push(name);
      if (error) throw new Error(error);
    },
  });
  await assert.rejects(runInLanes([task("a", "broken"), task("b")], 1), /broken/);
  assert.deepEqual(began, ["a"]);
});

test("tasks that wait for each other are an error instead of a deadlock", async () => {
  const tasks = [
    { name: "a", after: ["b"], run: () => {} },
    { name: "b", after: ["a"], run: () => {} },
  ];
  await assert.rejects(runInLanes(tasks, 2), /wait for each other: a, b/);
});
