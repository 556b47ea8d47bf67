// What an answer costs that looks at nothing: the least that a refusal can take here.

export default {
  fetch: () => Response.json({ error: "Invalid token" }, { status: 401 }),
};
