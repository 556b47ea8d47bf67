// Shows the running steps of a script: on a terminal as a list that is redrawn in place, otherwise as
// a plain log with a line when a step begins and ends, and at least one every ten seconds in between.

/**
 * @typedef {(text: string) => void} Note sets the status text of a step
 * @typedef {ReturnType<typeof createProgress>} Progress
 * @typedef {{ write: (text: string) => unknown, isTTY?: boolean, columns?: number }} Output
 * @typedef {{ title: string, state: "running" | "done" | "failed", note: string, began: number, ended?: number }} Step
 */

const FRAME_MS = 120;
const HEARTBEAT_MS = 10_000;
const SPINNER = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/** @param {{ out?: Output, env?: NodeJS.ProcessEnv, now?: () => number }} [options] */
export function createProgress({ out = process.stdout, env = process.env, now = Date.now } = {}) {
  const isLive = Boolean(out.isTTY) && !env.CI && env.TERM !== "dumb";
  const began = now();
  /** @type {Step[]} */
  const steps = [];
  let drawn = 0;
  let lastLine = now();
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let timer;
  let isFrozen = false;

  /**
   * @param {number} from
   * @param {number} [to]
   */
  const seconds = (from, to = now()) => `${((to - from) / 1000).toFixed(1)} s`;

  /** @param {string} text */
  const print = (text) => {
    lastLine = now();
    out.write(`${text}\n`);
  };

  const stamp = () => `[${seconds(began).padStart(7)}]`;

  /** @param {Step} step */
  const render = (step) => {
    const mark = { running: SPINNER[Math.floor(now() / FRAME_MS) % SPINNER.length], done: "✓", failed: "✗" }[
      step.state
    ];
    const time = seconds(step.began, step.ended).padStart(8);
    const line = `${mark} ${time}  ${step.title}${step.note === "" ? "" : ` · ${step.note}`}`;
    const columns = out.columns ?? 80;
    return line.length < columns ? line : `${line.slice(0, columns - 2)}…`;
  };

  const draw = () => {
    if (drawn > 0) out.write(`\u001b[${drawn}A`);
    for (const step of steps) out.write(`\u001b[2K${render(step)}\n`);
    drawn = steps.length;
  };

  const beat = () => {
    if (isLive) return draw();
    if (now() - lastLine < HEARTBEAT_MS) return;
    const running = steps.filter((step) => step.state === "running");
    if (running.length === 0) return;
    print(
      `${stamp()} … ${running.map((step) => (step.note === "" ? step.title : `${step.title}: ${step.note}`)).join("; ")}`,
    );
  };

  /**
   * @param {Step} step
   * @param {"done" | "failed"} state
   */
  const finish = (step, state) => {
    step.state = state;
    step.ended = now();
    if (isFrozen) return;
    if (isLive) draw();
    else
      print(
        `${stamp()} ${state === "done" ? "✓" : "✗"} ${step.title}${step.note === "" ? "" : ` · ${step.note}`} (${seconds(step.began, step.ended)})`,
      );
    if (steps.every((other) => other.state !== "running")) {
      clearInterval(timer);
      timer = undefined;
    }
  };

  return {
    isLive,
    elapsed: () => seconds(began),

    /**
     * Prints a line that stays above the list.
     * @param {string} text
     */
    say(text) {
      if (!isLive) return print(text);
      if (drawn > 0) out.write(`\u001b[${drawn}A\u001b[J`);
      drawn = 0;
      print(text);
      if (timer !== undefined) draw();
    },

    /**
     * Runs `work` as a step and passes it a function that sets the step's status text. `isGood` decides
     * whether a result counts as success.
     * @template T
     * @param {string} title
     * @param {(note: Note) => T | Promise<T>} work
     * @param {(result: T) => boolean} [isGood]
     * @returns {Promise<T>}
     */
    async run(title, work, isGood = () => true) {
      /** @type {Step} */
      const step = { title, state: "running", note: "", began: now(), ended: undefined };
      steps.push(step);
      timer ??= setInterval(beat, isLive ? FRAME_MS : 1000);
      if (isLive) draw();
      else print(`${stamp()} · ${title}`);
      try {
        const result = await work((note) => {
          step.note = note;
        });
        finish(step, isGood(result) ? "done" : "failed");
        return result;
      } catch (error) {
        finish(step, "failed");
        throw error;
      }
    },

    // Stops drawing for good: steps that end later print nothing.
    freeze() {
      isFrozen = true;
      this.close();
    },

    // Stops drawing in place, so that other output can follow.
    close() {
      clearInterval(timer);
      timer = undefined;
      steps.length = 0;
      drawn = 0;
    },
  };
}
