// The modules that workerd's configuration adds to these: the Worker's entry, and the extension's.

declare module "*/entry.js" {
  const gateway: {
    fetch(request: Request, env: unknown, context: ExecutionContext): Promise<Response> | Response;
    scheduled(event: unknown, env: unknown, context: unknown): Promise<void>;
  };
  export default gateway;
  export class Metrics {}
  export class Revocations {}
}

declare module "portcullis:retry" {
  export function ask(owner: Fetcher, url: string, init: RequestInit): Promise<Response>;
}

declare module "portcullis:counter" {
  export { createCounter } from "./counter.js";
}
