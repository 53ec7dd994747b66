//! Who may import whom. The rooms are those of docs/ARCHITECTURE.md; a package that stands in no
//! known room is a finding too, so that a new room gets its rule with its first commit.

use super::Finding;
use crate::{Failure, paths};
use serde_json::Value;
use std::process::Command;

/// A package of the workspace and the packages of ours that it imports.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its folder from the checkout's top, for example `plugins/resp/cdylib`.
    folder: String,
    imports: Vec<Import>,
}

#[derive(Debug)]
struct Import {
    /// The imported package's folder; for a package that is not ours, its name.
    what: Target,
    dev: bool,
    optional: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    Ours(String),
    Foreign(String),
}

/// Reads all packages of this checkout from cargo.
pub(crate) fn workspace() -> Result<Vec<Package>, Failure> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(paths::root())
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    packages(&output.stdout, &paths::root().display().to_string())
}

fn packages(metadata: &[u8], root: &str) -> Result<Vec<Package>, Failure> {
    let metadata: Value = serde_json::from_slice(metadata)
        .map_err(|error| format!("cargo metadata is no JSON: {error}"))?;
    let folder_of =
        |path: &str| path.strip_prefix(root).map(|rest| rest.trim_start_matches('/').to_owned());
    let mut packages = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let folder = manifest.strip_suffix("/Cargo.toml").and_then(folder_of).unwrap_or_default();
        let imports = package["dependencies"].as_array().into_iter().flatten().map(|edge| Import {
            what: match edge["path"].as_str().and_then(folder_of) {
                Some(folder) => Target::Ours(folder),
                None => Target::Foreign(edge["name"].as_str().unwrap_or_default().to_owned()),
            },
            dev: edge["kind"] == "dev",
            optional: edge["optional"] == true,
        });
        packages.push(Package { folder, imports: imports.collect() });
    }
    Ok(packages)
}

const API: &str = "plugin-api";
const TESTKIT: &str = "plugin-api/testkit";
const STORE: &str = "lib/cache-core";
const LOOP: &str = "lib/kompio";
/// Hashes, lists, sets and sorted sets for backends.
const STRUCTS: &str = "lib/structs";
/// Plugins that store; every other plugin is a protocol.
const BACKENDS: [&str; 3] = ["plugins/segcache", "plugins/slab", "plugins/heap"];
/// The boundary's description crate, hidden behind plugin-api.
const ABI_CRATE: &str = "abi_stable";

/// What the package in `folder` may import of ours, or nothing if the room is unknown.
fn allowed(folder: &str) -> Option<Vec<String>> {
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    match folder {
        API | "xtask" => names(&[]),
        // Inputs for everything that reads or stores.
        "fuzz/cases" => names(&[
            API,
            TESTKIT,
            "host",
            "bench",
            "plugins/resp",
            "plugins/memcache",
            "plugins/momento",
            "plugins/ping",
            "plugins/segcache",
            "plugins/slab",
            "plugins/heap",
        ]),
        TESTKIT => names(&[API, STRUCTS]),
        // The suites are what `plugin check` runs.
        "host" => names(&[API, TESTKIT, LOOP]),
        "bench" => names(&[LOOP]),
        // It speaks the boundary's words for operations on structures.
        STRUCTS => names(&[API]),
        _ if folder.starts_with("lib/") => names(&[]),
        _ if BACKENDS.contains(&folder) => names(&[API, STORE, STRUCTS]),
        _ => {
            let plugin = folder.strip_prefix("plugins/")?;
            match plugin.strip_suffix("/cdylib") {
                Some(name) => names(&[API, &format!("plugins/{name}")]),
                None if !plugin.contains('/') => names(&[API]),
                None => None,
            }
        }
    }
}

/// Findings over all packages.
pub(crate) fn check(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let manifest = format!("{}/Cargo.toml", package.folder);
        let Some(allowed) = allowed(&package.folder) else {
            let says = "stands in no known room: give it a rule in xtask/src/tidy/edges.rs";
            findings.push(Finding::new(&manifest, 0, says));
            continue;
        };
        for import in &package.imports {
            let fine = match &import.what {
                Target::Foreign(name) => name != ABI_CRATE || package.folder == API,
                Target::Ours(folder) => {
                    allowed.contains(folder)
                        || (import.dev && folder == TESTKIT)
                        // The host's bench-only build links plugins statically.
                        || (import.optional
                            && package.folder == "host"
                            && folder.starts_with("plugins/"))
                }
            };
            if !fine {
                let (Target::Ours(name) | Target::Foreign(name)) = &import.what;
                findings.push(Finding::new(&manifest, 0, format!("may not import {name}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn findings(folder: &str, dependencies: Value) -> Vec<String> {
        let metadata = json!({ "packages": [{
            "manifest_path": format!("/top/{folder}/Cargo.toml"),
            "dependencies": dependencies,
        }]});
        let packages = packages(metadata.to_string().as_bytes(), "/top").expect("well formed");
        check(&packages).into_iter().map(|finding| finding.says).collect()
    }

    fn ours(folder: &str) -> Value {
        json!([{ "name": "x", "path": format!("/top/{folder}"), "kind": null, "optional": false }])
    }

    fn refused(folder: &str, import: &str) -> bool {
        findings(folder, ours(import)) == [format!("may not import {import}")]
    }

    #[test]
    fn the_edges_of_the_architecture_are_allowed() {
        for (folder, import) in [
            ("plugins/resp", "plugin-api"),
            ("plugins/segcache", "plugin-api"),
            ("plugins/segcache", "lib/cache-core"),
            ("plugins/resp/cdylib", "plugins/resp"),
            ("host", "lib/kompio"),
            ("host", "plugin-api/testkit"),
            ("bench", "lib/kompio"),
            ("plugin-api/testkit", "plugin-api"),
            ("plugin-api/testkit", "lib/structs"),
            ("plugins/heap", "lib/structs"),
            ("lib/structs", "plugin-api"),
            ("fuzz/cases", "plugins/heap"),
        ] {
            assert!(findings(folder, ours(import)).is_empty(), "{folder} -> {import}");
        }
    }

    #[test]
    fn a_forbidden_edge_is_found() {
        for (folder, import) in [
            ("plugin-api", "lib/kompio"),
            ("lib/cache-core", "plugin-api"),
            ("lib/kompio", "lib/cache-core"),
            ("plugins/resp", "lib/cache-core"),
            ("plugins/resp", "plugins/segcache"),
            ("plugins/segcache", "lib/kompio"),
            ("plugins/resp/cdylib", "plugins/ping"),
            ("host", "lib/cache-core"),
            ("host", "plugins/resp"),
            ("bench", "plugin-api"),
            ("plugins/resp", "lib/structs"),
            ("lib/structs", "lib/cache-core"),
        ] {
            assert!(refused(folder, import), "{folder} -> {import}");
        }
    }

    #[test]
    fn the_testkit_is_for_tests_alone() {
        assert!(refused("plugins/resp", "plugin-api/testkit"));
        let mut dev = ours("plugin-api/testkit");
        dev[0]["kind"] = json!("dev");
        assert!(findings("plugins/resp", dev).is_empty());
    }

    #[test]
    fn the_host_may_link_plugins_only_as_an_option() {
        let mut optional = ours("plugins/resp");
        optional[0]["optional"] = json!(true);
        assert!(findings("host", optional.clone()).is_empty());
        assert_eq!(findings("bench", optional), ["may not import plugins/resp"]);
    }

    #[test]
    fn the_abi_crate_stays_behind_plugin_api() {
        let edge = json!([{ "name": "abi_stable", "kind": null, "optional": false }]);
        assert!(findings("plugin-api", edge.clone()).is_empty());
        assert_eq!(findings("host", edge), ["may not import abi_stable"]);
    }

    #[test]
    fn a_package_in_no_known_room_is_found() {
        assert_eq!(findings("misc", json!([])).len(), 1);
        assert_eq!(findings("plugins/resp/extra", json!([])).len(), 1);
    }
}
