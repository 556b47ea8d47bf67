// The questions about a new project.

/**
 * @typedef {{ upstream?: string, issuer?: string, audience?: string }} Given values of flags
 * @typedef {{ folder: string, upstream: string, issuer: string, audience: string }} Answers
 */

/**
 * Asks for what the arguments do not give. `ask` resolves with an empty text if no one can be asked.
 * @param {string | undefined} folder
 * @param {Given} given
 * @param {(question: string) => Promise<string>} ask
 * @returns {Promise<Answers>}
 */
export async function askMissing(folder, given, ask) {
  const named = folder ?? (await ask("Folder of the project? (gateway)"));
  const upstream = given.upstream ?? (await ask("URL of your service? (empty: an example service)"));
  const issuer =
    given.issuer ?? (await ask('Who issues your tokens, as in their "iss"? (empty: a development issuer)'));
  // The gateway refuses each token with another audience, so a provider's is not guessed.
  const audience =
    given.audience ?? (issuer === "" ? "" : await ask('Who are the tokens for, as in their "aud"? (needed)'));
  return { folder: named || "gateway", upstream, issuer, audience };
}
