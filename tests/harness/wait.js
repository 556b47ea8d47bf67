// Waits for conditions instead of fixed times. The timeout only ends a wait that would never end, and is far
// longer than any machine needs.

const BOUND_MS = 60_000;
const STEP_MS = 20;

// Resolves with the result of `condition` as soon as it is neither undefined, null nor false. A condition
// that throws is evaluated again.
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
    if (Date.now() > end) throw new Error(`timed out after ${boundMs / 1000} s: ${what}`, { cause: last });
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
}
