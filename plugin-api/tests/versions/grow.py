"""Makes the next minor version of the ABI of a copy of the tree."""
import pathlib
import re
import sys

tree = pathlib.Path(sys.argv[1])


def change(path, *pairs):
    file = tree / path
    text = file.read_text()
    for pattern, by in pairs:
        text, n = re.subn(pattern, by, text, count=1, flags=re.S)
        assert n == 1, f"{path}: nothing matches {pattern}"
    file.write_text(text)


change("plugin-api/Cargo.toml", (r'version = "1\.0\.\d+"', 'version = "1.1.0"'))
change("plugin-api/src/metadata.rs", (r'pub const ABI: &str = "1\.0"', 'pub const ABI: &str = "1.1"'))

# Each of these tables ends with query_ext, the last of its prefix.
tables = ["HostApi", "BackendVt", "BackendFns", "ProtocolVt"]
added = "\n    pub added: unsafe extern \"C\" fn(_: *const c_void) -> u64,\n}"
change(
    "plugin-api/src/abi/tables.rs",
    (r"pub const ABI_MINOR: u32 = 0;", "pub const ABI_MINOR: u32 = 1;"),
    # Accessors of fields behind a prefix look before they read, unsafely.
    (r"\n(use abi_stable::StableAbi;)", r"\n#![allow(unsafe_code)]\n\n\1"),
    *[
        (rf"(pub struct {name} \{{.*?pub query_ext: [^;]*?-> \*const c_void,)\n\}}", r"\1" + added)
        for name in tables
    ],
)

# Whoever fills such a table fills the new function too.
fill = "crucible_plugin_api::abi::tables::the_answer"
with (tree / "plugin-api/src/abi/tables.rs").open("a") as file:
    file.write(
        "\n/// What the added function answers.\n#[allow(unsafe_code)]\n"
        'pub unsafe extern "C" fn the_answer(_: *const c_void) -> u64 {\n    42\n}\n'
    )
filled = 0
sdk = tree / "plugin-api/src"
# The host carries the test kit for `plugin check`.
others = [tree / "plugin-api/testkit/src", tree / "host/src"]
for file in [file for folder in [sdk, *others] for file in folder.glob("**/*.rs")]:
    text = file.read_text()
    path = "crate::abi::tables::the_answer" if file.is_relative_to(sdk) else fill
    pattern = rf"(\b(?:{'|'.join(tables)}) \{{\s[^{{}}]*?\bquery_ext(?:: [^,]+?(?:\([^()]*\))?)?,)(\s*\}})"
    grown, n = re.subn(pattern, rf"\1 added: {path},\2", text)
    if n and "pub struct" not in file.name and file.name != "tables.rs":
        filled += n
        file.write_text(grown)
assert filled >= 6, f"only {filled} tables were filled"

# The loader reminds its owner to think of this very test.
loader = tree / "host/src/loader/open.rs"
loader.write_text(re.sub(r"const _: \(\) = assert!\(ABI_MINOR == 0[^;]*;", "", loader.read_text()))
