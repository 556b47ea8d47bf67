// A rate limit that the owner process counts for all edge processes.

import { ask } from "portcullis:retry";

/** @param {{ owner: Fetcher, name: string, limit: string, period: string }} env */
export default ({ owner, name, limit, period }) => {
  const url = `http://owner/${name}?limit=${limit}&period=${period}`;
  return {
    async limit(/** @type {{ key: string }} */ { key }) {
      const { status, body } = await ask(owner, url, { method: "POST", body: key });
      await body?.cancel();
      if (status !== 200 && status !== 429) throw new Error("the owner process failed to count");
      return { success: status === 200 };
    },
  };
};
