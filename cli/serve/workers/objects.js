// A namespace of Durable Objects whose objects live in the owner process: what the gateway uses of one.

import { ask } from "portcullis:retry";

/** @param {{ owner: Fetcher, namespace: string }} env */
export default ({ owner, namespace }) => ({
  idFromName: (/** @type {string} */ name) => name,
  get: (/** @type {string} */ name) => ({
    /**
     * @param {string} url
     * @param {RequestInit} init
     */
    fetch(url, init) {
      const { pathname, search } = new URL(url);
      return ask(owner, `http://owner/${namespace}/${encodeURIComponent(name)}${pathname}${search}`, init);
    },
  }),
});
