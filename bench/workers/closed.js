// Refuses without looking at the request: the minimum cost of a refusal.

export default {
  fetch: () => Response.json({ error: "Invalid token" }, { status: 401 }),
};
