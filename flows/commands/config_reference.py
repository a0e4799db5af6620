"""Every key that a configuration has, as docs/configuration.md.

Written by `python -m storyreel.flows.commands.config_reference > docs/configuration.md`.

What stands in the tables is read from the classes that check a configuration, so it is what they
allow and what their docstrings say.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from storyreel.flows.job.config import OPERATION, RenderConfig

Schema = Mapping[str, Any]

INTRODUCTION = """\
# Configuration

Written by `python -m storyreel.flows.commands.config_reference` from the classes that check a
configuration; do not edit.

A configuration is one TOML file: `--config` takes one of the bundled ones (`pocket`, `sd15`,
`sd21`, `sdxl`, in `configs/`) or a file of yours. `--profile` lays another file over it, and
`--set section.key=value` a single value over both. An unknown key or a value that is not allowed
ends the command before anything is rendered, and the message names it. The same holds for a key
left out that is required; *none* as a default means that the key is left out. The defaults here
are those of the classes; the bundled files set many keys themselves.

## A checkpoint of your own

Copy the bundled file whose family your checkpoint belongs to, and change the place of the weights
in it:

```
cp configs/sd15.toml mine.toml
storyreel doctor --config mine.toml
storyreel render stories.jsonl --output output/mine --config mine.toml --sample 4
```

```toml
[keyframes.model]
path = "/models/my-sd15"  # a folder, or a repository of the hub with its `revision`
dtype = "float16"
device = "cuda"
```

- The folder has the layout of diffusers (`model_index.json`, `unet/`, `vae/`, ...) with weights
  in safetensors and nothing in it that can run code (`.bin`, `.pt`, `.py`, ...). A checkpoint in
  one file is brought into it once, with diffusers'
  `StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)`
  (`StableDiffusionXLPipeline` for SDXL).
- Leave `variant = "fp16"` out if the names of your weight files do not hold it.
- Set `width` and `height` of `[keyframes]` to what the checkpoint was trained for.
- Between the keyframes an SD1.5 model with AnimateDiff draws. Give a checkpoint of SD1.5 as
  `[motion.model]` too, and the clips have its look; with one of another family leave
  `[motion.model]` as it is.
- `[motion.ip_adapter]` and `[motion.motion_adapter]` belong to the family of `[motion.model]`.
- `renderer = "semantic_motion"` needs a motion adapter and a Semantic Motion Predictor that were
  trained together with the video model. There are none for public weights; `make pocket` shows
  how they are trained.
"""

PARTS = """\
## Tables that come up in several places

They have the same keys everywhere, and at each place defaults of its own, which stand there.
"""

NAMES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}

LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minItems": "at least {} of them",
    "pattern": "`{}`",
}


def reference() -> str:
    """The whole document."""
    return "\n".join(_Reference(RenderConfig.model_json_schema()).lines()) + "\n"


class _Reference:
    """Writes the tables of a schema; those that come up in several places once, at the end."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._classes: Schema = schema["$defs"]
        used = Counter(
            name
            for table in (schema, *self._classes.values())
            for key in table.get("properties", {}).values()
            if (name := self._table_in(key))
        )
        self._shared = sorted(name for name, count in used.items() if count > 1)

    def lines(self) -> Iterator[str]:
        """The document, line by line."""
        yield INTRODUCTION
        yield "## Outside of any section\n"
        yield from self._keys(self._schema, "")
        for name, key in self._schema["properties"].items():
            if inner := self._table_in(key):
                yield from self._section(name, inner)
        yield PARTS
        for name in self._shared:
            yield f"### {name}\n"
            yield from self._table(name, name)

    def _section(self, path: str, name: str) -> Iterator[str]:
        yield f"{'###' if '.' in path else '##'} `[{path}]`\n"
        if path in OPERATION:
            yield "*Shapes no pixel: may differ from one run of a job to the next.*\n"
        yield from self._table(name, path)
        for key, value in self._classes[name]["properties"].items():
            inner = self._table_in(value)
            if inner and inner not in self._shared:
                yield from self._section(_place(path, key, value), inner)

    def _table(self, name: str, path: str) -> Iterator[str]:
        yield self._classes[name]["description"] + "\n"
        yield from self._keys(self._classes[name], path)

    def _keys(self, table: Schema, path: str) -> Iterator[str]:
        """A row for each key; outside of any section (no path) only for those that are none."""
        yield "| key | value | default | meaning |"
        yield "|---|---|---|---|"
        required = table.get("required", ())
        for name, key in table["properties"].items():
            if path or not self._table_in(key):
                default = "required" if name in required else self._default(key)
                value = self._value(key, _place(path, name, key))
                yield _row(f"`{name}`", value, default, self._meaning(key))
        yield ""

    def _table_in(self, key: Schema) -> str | None:
        """The class of the table that a key holds, if it holds one."""
        for option in (key, *key.get("anyOf", ()), key.get("additionalProperties", {})):
            name = option.get("$ref", "").rpartition("/")[2]
            if name and "properties" in self._classes[name]:
                return str(name)
        return None

    def _value(self, key: Schema, path: str) -> str:
        if name := self._table_in(key):
            return f"[{name}](#{name.lower()})" if name in self._shared else f"`[{path}]`"
        if "$ref" in key:
            return self._value(self._classes[key["$ref"].rpartition("/")[2]], path)
        if "anyOf" in key:
            return self._value(next(o for o in key["anyOf"] if o.get("type") != "null"), path)
        if "enum" in key or "const" in key:
            return ", ".join(f"`{value}`" for value in key.get("enum", [key.get("const")]))
        return ", ".join([self._plain(key, path), *_limits(key)])

    def _plain(self, key: Schema, path: str) -> str:
        if key["type"] == "array":
            return f"list of {self._value(key['items'], path)}"
        if key["type"] == "object":
            return f"table of {self._value(key['additionalProperties'], path)}"
        return NAMES[key["type"]]

    def _default(self, key: Schema) -> str:
        default, name = key.get("default"), self._table_in(key)
        if name is not None and default is not None:
            usual = self._classes[name]["properties"]
            own = {k: v for k, v in default.items() if v != usual[k].get("default")}
            return ", ".join(f"`{k} = {json.dumps(v)}`" for k, v in own.items())
        return "none" if default in (None, {}) else f"`{json.dumps(default)}`"

    def _meaning(self, key: Schema) -> str:
        name = self._table_in(key) or key.get("$ref", "").rpartition("/")[2]
        kind = self._classes.get(name, {})
        text: str = key.get("description") or kind.get("description", "")
        return text


def _place(path: str, name: str, key: Schema) -> str:
    """Where a table stands; of tables by name, any of them."""
    return f"{path}.{name}" + (".NAME" if "additionalProperties" in key else "")


def _limits(key: Schema) -> Iterator[str]:
    return (text.format(key[name]) for name, text in LIMITS.items() if name in key)


def _row(*cells: str) -> str:
    texts = (" ".join(cell.split()).replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(texts)} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
