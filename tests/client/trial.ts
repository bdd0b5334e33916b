// What tests/client/test_typescript.py runs against a live server: it prints what it found as JSON.

import { exported, sheaf, SheafError, type Schemas } from "./sheaf.js";

declare const process: { argv: string[] };

const [, , url, name, key] = process.argv as [string, string, string, string, string?];
const api = sheaf(url, key);
const path = { name };
const created = await api.POST("/v1/collections", { body: { name, encoder: { model: "words" } } });
const documents: Schemas["DocumentBody"][] = [
    { id: "cat", text: "a cat sleeps \u2028 on the mat", metadata: { legs: 4, tags: ["pet"] } },
    { id: 7, text: "a hen lays eggs", metadata: { legs: 2 } },
    { text: "an owl sees at night", metadata: { legs: 2 } },
];
const written = await api.POST("/v1/collections/{name}/documents", { params: { path }, body: documents });
const found = await api.POST("/v1/collections/{name}/search", {
    params: { path },
    body: { query: "eggs", k: 2, mode: "lexical" },
});
const filtered = await api.POST("/v1/collections/{name}/search", { params: { path }, body: { filter: { legs: 2 } } });
const texts: (string | null | undefined)[] = [];
for await (const one of exported(api, name, { include: ["text"] })) texts.push(one.text);
let refused: object = {};
try {
    await api.POST("/v1/collections/{name}/search", { params: { path }, body: { query: "eggs", k: 0 } });
} catch (error) {
    if (!(error instanceof SheafError)) throw error;
    refused = { status: error.status, code: error.code, errors: error.errors, named: error.requestId !== "" };
}
const patched = await api.PATCH("/v1/collections/{name}/documents/{id}", {
    params: { path: { name, id: "7" } },
    body: { metadata: { legs: null } },
});
console.log(
    JSON.stringify({
        created: created.data?.name,
        ids: written.data?.ids,
        hits: found.data?.hits.map((hit) => hit.id),
        filtered: filtered.data?.hits.map((hit) => hit.id).length,
        texts,
        refused,
        patched: patched.data?.metadata,
    }),
);
