//! `plugin check` and `plugin new`, as an author uses them.

use std::process::Command;

use crate::support::{command, fixtures, folder, plugins};

struct Checked {
    code: Option<i32>,
    claims: serde_json::Value,
}

fn check(args: &[&str]) -> Checked {
    let out = command(&["plugin", "check", "--json"]).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let claims = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{said}"));
    Checked { code: out.status.code(), claims }
}

impl Checked {
    fn results(&self) -> Vec<&str> {
        let claims = self.claims["claims"].as_array().unwrap();
        claims.iter().map(|claim| claim["result"].as_str().unwrap()).collect()
    }
}

#[test]
fn a_sound_plugin_passes_every_claim() {
    for (file, claims) in [("libping.so", 7), ("libsegcache.so", 15)] {
        let file = plugins().join(file);
        let checked = check(&[file.to_str().unwrap()]);
        assert_eq!(checked.code, Some(0), "{:#}", checked.claims);
        assert!(checked.results().len() >= claims, "{:#}", checked.claims);
        assert!(checked.results().iter().all(|result| *result == "holds"));
    }
}

#[test]
fn planted_defects_are_found_also_those_that_end_or_stop_the_process() {
    let file = fixtures().join("libplanted.so");
    let file = file.to_str().unwrap();
    for (defect, result) in [
        ("ignores IF_ABSENT", "broken"),
        ("scan skips", "broken"),
        ("ends the process", "died"),
        ("hangs", "hung"),
    ] {
        let settings = format!("{{\"defect\":\"{defect}\"}}");
        let checked = check(&[file, "--settings", &settings, "--timeout", "10"]);
        assert_eq!(checked.code, Some(1), "{defect}: {:#}", checked.claims);
        assert!(checked.results().contains(&result), "{defect}: {:#}", checked.claims);
        assert!(checked.results().contains(&"holds"), "{defect}: other claims are still checked");
    }
}

#[test]
fn a_plugin_that_is_not_there_is_a_sentence() {
    let out = command(&["plugin", "check", "nosuch"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.starts_with("error: no plugin nosuch") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_list_ends_quietly_when_nobody_reads_on() {
    let pipe = format!(
        "{} plugin inspect {} | true; exit ${{PIPESTATUS[0]}}",
        crate::support::program().display(),
        plugins().join("libresp.so").display()
    );
    let mut bash = Command::new("bash");
    let out = bash.args(["-c", &pipe]).env_remove("CRUCIBLE_PLUGINS_ARE_BUILT").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    assert!(matches!(out.status.code(), Some(0 | 141)), "{:?}", out.status);
    assert!(folder().exists());
}
