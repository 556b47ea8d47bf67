// Runs tasks in parallel lanes. Independent of what a task does.

/**
 * @typedef {object} Task
 * @property {string} name
 * @property {() => unknown} run
 * @property {string[]} [after] names of tasks that must end first
 * @property {string[]} [holds] resources that only one task may use at a time
 */

/**
 * Runs the tasks in the order of the list, each as soon as a lane is free, the tasks in `after` have
 * ended (names that are not in the list are ignored), and no running task holds the same resource.
 * Resolves when all tasks have ended. Rejects with the first error and then starts no further task.
 * @param {Task[]} tasks
 * @param {number} lanes
 * @returns {Promise<void>}
 */
export function runInLanes(tasks, lanes) {
  const waiting = [...tasks];
  /** @type {Set<Task>} */
  const running = new Set();
  /** @param {Task} task */
  const canBegin = (task) =>
    ![...waiting, ...running].some((other) => task.after?.includes(other.name)) &&
    ![...running].some((other) => other.holds?.some((thing) => task.holds?.includes(thing)));

  return new Promise((resolve, reject) => {
    let hasFailed = false;
    /** @param {unknown} error */
    const fail = (error) => {
      hasFailed = true;
      reject(error);
    };
    const fill = () => {
      while (!hasFailed && running.size < lanes) {
        const index = waiting.findIndex(canBegin);
        if (index < 0) break;
        const [task] = waiting.splice(index, 1);
        running.add(task);
        Promise.resolve()
          .then(task.run)
          .then(() => {
            running.delete(task);
            fill();
          }, fail);
      }
      if (hasFailed || running.size > 0) return;
      if (waiting.length === 0) resolve();
      else fail(new Error(`these tasks wait for each other: ${waiting.map(({ name }) => name).join(", ")}`));
    };
    fill();
  });
}
