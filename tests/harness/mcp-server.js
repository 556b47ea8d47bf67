// An MCP service (Streamable HTTP, by the SDK) with the tools that the MCP conformance tests call, as the answer of an
// upstream:
//
//   const users = await startUpstream(scope, createMcpService());

import { randomUUID } from "node:crypto";

import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import {
  CallToolRequestSchema,
  CreateMessageResultSchema,
  ElicitResultSchema,
  ListToolsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";

const text = (value) => ({ content: [{ type: "text", text: value }] });

// Each tool gets its arguments, the token for its progress, and what the SDK knows of the request.
const TOOLS = {
  whoami: (_given, _progress, { requestInfo }) => text(String(requestInfo.headers["x-user-id"])),
  test_simple_text: () => text("This is a simple text response for testing."),
  async test_tool_with_logging(_given, _progress, { sendNotification }) {
    for (const data of ["started", "processing", "completed"])
      await sendNotification({ method: "notifications/message", params: { level: "info", data } });
    return text("logged");
  },
  async test_tool_with_progress(_given, progressToken, { sendNotification }) {
    for (const progress of [0, 50, 100])
      await sendNotification({ method: "notifications/progress", params: { progressToken, progress, total: 100 } });
    return text("done");
  },
  async test_sampling({ prompt }, _progress, { sendRequest }) {
    const messages = [{ role: "user", content: { type: "text", text: prompt } }];
    const params = { messages, maxTokens: 100 };
    const { content } = await sendRequest({ method: "sampling/createMessage", params }, CreateMessageResultSchema);
    return text(`LLM response: ${content.text}`);
  },
  async test_elicitation({ message }, _progress, { sendRequest }) {
    const requestedSchema = { type: "object", properties: { username: { type: "string" } }, required: ["username"] };
    const params = { message, requestedSchema };
    const { action, content } = await sendRequest({ method: "elicitation/create", params }, ElicitResultSchema);
    return text(`User response: ${action} ${JSON.stringify(content)}`);
  },
  test_error_handling() {
    throw new Error("This tool intentionally returns an error for testing");
  },
};

function createServer() {
  const capabilities = { tools: { listChanged: true }, logging: {} };
  const server = new Server({ name: "tools", version: "1.0.0" }, { capabilities });
  server.setRequestHandler(ListToolsRequestSchema, () => ({
    tools: Object.keys(TOOLS).map((name) => ({ name, description: name, inputSchema: { type: "object" } })),
  }));
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, extra) => {
    try {
      return await TOOLS[params.name](params.arguments ?? {}, params._meta?.progressToken, extra);
    } catch (error) {
      return { ...text(error.message), isError: true };
    }
  });
  return server;
}

// Returns a request handler, which also has `changed`: tells all sessions that their tools have changed.
export function createMcpService() {
  const sessions = new Map();
  async function open() {
    const server = createServer();
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void sessions.set(id, { server, transport }),
      onsessionclosed: (id) => void sessions.delete(id),
    });
    await server.connect(transport);
    return transport;
  }
  const handle = async (request, response) => {
    const id = request.headers["mcp-session-id"];
    const transport = id === undefined ? await open() : sessions.get(id)?.transport;
    if (transport === undefined) return response.writeHead(404).end();
    await transport.handleRequest(request, response);
  };
  return Object.assign(handle, {
    changed: () => Promise.all([...sessions.values()].map(({ server }) => server.sendToolListChanged())),
  });
}
