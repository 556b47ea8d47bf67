// Numbers and times in words.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** @param {number} value */
export const count = (value) => (value < 10_000 ? whole.format(Math.round(value)) : short.format(value));

/** @param {number} value */
export const rate = (value) => (value === 0 ? "0" : value < 10 ? value.toFixed(1) : count(value));

/** @param {number} share */
export function percent(share) {
  if (share === 0) return "0 %";
  if (share < 0.001) return "< 0.1 %";
  return `${share < 0.1 ? (share * 100).toFixed(1) : Math.round(share * 100)} %`;
}

/** @param {number | null | undefined} millis */
export function duration(millis) {
  if (millis === null || millis === undefined || Number.isNaN(millis)) return "–";
  if (millis < 10) return `${millis < 1 && millis > 0 ? "< 1" : Math.round(millis)} ms`;
  if (millis < 1000) return `${Math.round(millis)} ms`;
  return `${(millis / 1000).toFixed(millis < 10_000 ? 1 : 0)} s`;
}

/** @param {number | null | undefined} seconds */
export function age(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** @param {number | null | undefined} seconds */
export const ago = (seconds) => {
  const text = age(seconds);
  return text === "–" || text === "now" ? text : `${text} ago`;
};

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const date = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** @param {number} millis */
export const time = (millis) => clock.format(millis);

/** @param {number} millis */
export const dateTime = (millis) => date.format(millis);

/**
 * @param {number} number
 * @param {string} noun
 */
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
