#!/usr/bin/env bash
# Makes the TypeScript client: types from the API's description, then JavaScript with declarations.
#
#     scripts/typescript.sh [FOLDER]
#
# FOLDER is scripts/typescript, or a copy of it. Needs node 18 or newer, npm and its registry; PYTHON is Sheaf's.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/scripts/typescript}
PYTHONPATH=$root "${PYTHON:-$root/.venv/bin/python}" - > "$folder/openapi.json" <<'PY'
import json

from app.main import create_app
from app.settings import Settings



def types(schema):
    """Without what of an object's fields has to be there together: of `anyOf` beside fields any type would be made."""
    if isinstance(schema, list):
        return [types(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    told = {"anyOf", "oneOf", "not"} if isinstance(schema.get("properties"), dict) else set()
    return {name: types(one) for name, one in schema.items() if name not in told}


print(json.dumps(types(create_app(Settings()).openapi())))
PY
cd "$folder"
npm ci --ignore-scripts --no-audit --no-fund
npm run --silent generate
npm run --silent build
