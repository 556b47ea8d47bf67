// What the build step writes into the page: the text of docs/errors.md by code.
declare const REASONS: Record<string, string>;
