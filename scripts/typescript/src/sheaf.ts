// Sheaf's API, typed by the server's own description (src/schema.ts is made from it: scripts/typescript.sh).
//
//     const api = sheaf("http://localhost:8000");
//     const { data } = await api.POST("/v1/collections/{name}/search", {
//         params: { path: { name: "papers" } },
//         body: { query: "compressed files", k: 3 },
//     });

import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type { components, paths };
export type Schemas = components["schemas"];

/** What the server refused, as its problem details (RFC 9457) say it. */
export class SheafError extends Error {
    override readonly name = "SheafError";

    constructor(
        readonly status: number,
        /** Stable: `collection_not_found`, `invalid`, ... */
        readonly code: string,
        message: string,
        /** Where in the body, as JSON pointers, and what. */
        readonly errors: readonly { pointer: string; message: string; line?: number }[] = [],
        readonly requestId = "",
    ) {
        super(message);
    }
}

/** The client of a server. Every operation throws SheafError where the server refuses. */
export function sheaf(url: string, key?: string): Client<paths> {
    const headers = key === undefined ? {} : { Authorization: `Bearer ${key}` };
    const client = createClient<paths>({ baseUrl: url, headers });
    client.use({
        async onResponse({ response }) {
            if (response.ok) return;
            const said = await response.text();
            let body: Record<string, any> = {};
            try {
                body = JSON.parse(said);
            } catch {
                // Of a proxy, which has no problem details.
            }
            const code = body.code ?? "unknown";
            throw new SheafError(response.status, code, body.detail ?? said, body.errors, body.request_id);
        },
    });
    return client;
}

/** The documents of an export, one after the other, whatever its size. */
export async function* exported(
    client: Client<paths>,
    name: string,
    query: { filter?: string; include?: ("text" | "metadata" | "vectors")[] } = {},
): AsyncGenerator<Schemas["DocumentAnswer"]> {
    const { data } = await client.GET("/v1/collections/{name}/export", {
        params: { path: { name }, query },
        parseAs: "stream",
    });
    const decoder = new TextDecoder();
    const reader = (data as ReadableStream<Uint8Array>).getReader();
    let begun = "";
    for (;;) {
        const { value, done } = await reader.read();
        begun += decoder.decode(value, { stream: !done });
        const lines = begun.split("\n");
        begun = lines.pop() ?? "";
        for (const line of lines) yield JSON.parse(line);
        if (done) return;
    }
}
