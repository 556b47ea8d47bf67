// Waiting for conditions, never for time. The bound only ends a wait that would
// never end, so it is far above what any machine needs.

const BOUND_MS = 60_000;
const STEP_MS = 20;

// Resolves with what `condition` gives once it is neither undefined, null nor
// false. A condition that throws is asked again.
export async function until(what, condition, boundMs = BOUND_MS) {
  const end = Date.now() + boundMs;
  let last;
  for (;;) {
    try {
      const value = await condition();
      if (value !== undefined && value !== null && value !== false) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`waited ${boundMs / 1000} s in vain: ${what}`, { cause: last });
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
}
