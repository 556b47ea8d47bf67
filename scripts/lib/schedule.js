// Runs tasks side by side in lanes. Knows nothing of what a task does.

// Runs each task of `tasks`, { name, run, after, holds }, when a lane is free: in the order
// of the list, not before those that `after` names have ended (where they are in the list),
// and not while another task holds something that it `holds`. Resolves when all have ended;
// rejects with the first error, and begins nothing after it.
export function runInLanes(tasks, lanes) {
  const waiting = [...tasks];
  const running = new Set();
  const canBegin = (task) =>
    ![...waiting, ...running].some((other) => task.after?.includes(other.name)) &&
    ![...running].some((other) => other.holds?.some((thing) => task.holds?.includes(thing)));

  return new Promise((resolve, reject) => {
    let hasFailed = false;
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
