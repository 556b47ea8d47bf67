// The functions that the wasm module exports to entry.js, as wasm-bindgen writes them into index.js.

export function fetch(request: Request, env: unknown, context: ExecutionContext): Promise<Response> | Response;
export function scheduled(env: unknown): Promise<void>;
export function revocationLog(request: Request, state: DurableObjectState): Promise<Response>;
export function sweepRevocationLog(state: DurableObjectState): Promise<void>;
export function metrics(request: Request, state: DurableObjectState): Promise<Response>;
