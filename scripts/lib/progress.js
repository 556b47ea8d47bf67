// Shows what is being done: on a terminal a list whose lines change in place, else
// a plain log with a line when a step begins and ends, and one at least every ten
// seconds in between, so that minutes of compiling never look like a hang.

const FRAME_MS = 120;
const HEARTBEAT_MS = 10_000;
const SPINNER = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

export function createProgress({ out = process.stdout, env = process.env, now = Date.now } = {}) {
  const isLive = Boolean(out.isTTY) && !env.CI && env.TERM !== "dumb";
  const began = now();
  const steps = [];
  let drawn = 0;
  let lastLine = now();
  let timer;
  let isFrozen = false;

  const seconds = (from, to = now()) => `${((to - from) / 1000).toFixed(1)} s`;

  const print = (text) => {
    lastLine = now();
    out.write(`${text}\n`);
  };

  const stamp = () => `[${seconds(began).padStart(7)}]`;

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

    // A line of text that stays, above the list.
    say(text) {
      if (!isLive) return print(text);
      if (drawn > 0) out.write(`\u001b[${drawn}A\u001b[J`);
      drawn = 0;
      print(text);
      if (timer !== undefined) draw();
    },

    // Runs `work` as a step. It gets a function that sets the step's note. `isGood`
    // says whether what it resolves with counts as done.
    async run(title, work, isGood = () => true) {
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

    // The same, for good: what ends from now on is not worth a line.
    freeze() {
      isFrozen = true;
      this.close();
    },

    // Ends drawing in place, so that other output can follow.
    close() {
      clearInterval(timer);
      timer = undefined;
      steps.length = 0;
      drawn = 0;
    },
  };
}
