// The module that the build step writes: the policy that is deployed with the Worker.

/** The policy as JSON. */
export function policy(): string;

/** The policy's file, and the line of each option of its routes, by their order; missing if the build does not know them. */
export const lines: undefined | (() => { file: string; routes: Record<string, number>[] });
