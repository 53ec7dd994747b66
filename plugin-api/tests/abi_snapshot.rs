//! The layout of everything that crosses the boundary, against `abi/v1.snap`.
//!
//! A difference is an ABI change: it must be an addition behind a
//! `last_prefix_field` or into reserved room (then raise `ABI_MINOR` and renew
//! the file), or a new major. Renew with `CRUCIBLE_RENEW_ABI=1 cargo test -p
//! crucible-plugin-api --test abi_snapshot`.

use std::fmt::Write as _;

use abi_stable::StableAbi;
use abi_stable::type_layout::{TLData, TLField, TypeLayout};
use crucible_plugin_api::abi::caps::Capabilities;
use crucible_plugin_api::abi::channels::{ChannelsTable, ReceiveFn};
use crucible_plugin_api::abi::op::{
    Buf, BufMut, Condition, Decision, ItemView, ModifyCall, Op, OpCode, Opts, Reservation,
};
use crucible_plugin_api::abi::status::Status;
use crucible_plugin_api::abi::structure::{RawElement, StructFlags, StructOp};
use crucible_plugin_api::abi::tables::{
    ABI_MAJOR, ABI_MINOR, BackendFns_Ref, BackendVt_Ref, Command, HostApi_Ref, ItemFn, JobFn,
    Plugin_Ref, ProtocolVt_Ref, ROOT_SYMBOL, StatFn, WorkerApi_Ref,
};
use crucible_plugin_api::abi::turn::{ConnInfo, GrowFn, KeyEvent, Sink, Splice, Turn, TurnEvent};

/// Data: frozen for the major.
const DATA: [&TypeLayout; 28] = [
    Buf::LAYOUT,
    BufMut::LAYOUT,
    Capabilities::LAYOUT,
    ChannelsTable::LAYOUT,
    Command::LAYOUT,
    Condition::LAYOUT,
    ConnInfo::LAYOUT,
    Decision::LAYOUT,
    GrowFn::LAYOUT,
    ItemFn::LAYOUT,
    ItemView::LAYOUT,
    JobFn::LAYOUT,
    KeyEvent::LAYOUT,
    ModifyCall::LAYOUT,
    Op::LAYOUT,
    OpCode::LAYOUT,
    Opts::LAYOUT,
    RawElement::LAYOUT,
    ReceiveFn::LAYOUT,
    Reservation::LAYOUT,
    Sink::LAYOUT,
    Splice::LAYOUT,
    StatFn::LAYOUT,
    Status::LAYOUT,
    StructFlags::LAYOUT,
    StructOp::LAYOUT,
    Turn::LAYOUT,
    TurnEvent::LAYOUT,
];

/// Tables: may grow behind their prefix.
const TABLES: [&TypeLayout; 6] = [
    BackendFns_Ref::LAYOUT,
    BackendVt_Ref::LAYOUT,
    HostApi_Ref::LAYOUT,
    Plugin_Ref::LAYOUT,
    ProtocolVt_Ref::LAYOUT,
    WorkerApi_Ref::LAYOUT,
];

/// A field with its type, or the function it points to.
fn field(out: &mut String, at: usize, field: &TLField) {
    let functions: Vec<String> = field
        .function_range()
        .iter()
        .map(|f| f.to_string().lines().next().unwrap_or_default().to_owned())
        .collect();
    let what = if functions.is_empty() || !field.is_function() {
        let layout = field.layout();
        let calls =
            if functions.is_empty() { String::new() } else { format!(" {}", functions.join("; ")) };
        format!("{} size {} align {}{calls}", field.full_type(), layout.size(), layout.alignment())
    } else {
        functions.join("; ")
    };
    writeln!(out, "  {at:2} {}: {what}", field.name()).expect("a string");
}

fn describe(out: &mut String, layout: &'static TypeLayout) {
    writeln!(
        out,
        "{} size {} align {} {:?}",
        layout.full_type(),
        layout.size(),
        layout.alignment(),
        layout.repr_attr()
    )
    .expect("a string");
    match layout.data() {
        TLData::Struct { fields } | TLData::Union { fields } => {
            fields.iter().enumerate().for_each(|(at, f)| field(out, at, &f));
        }
        TLData::PrefixType(prefix) => {
            for (at, f) in prefix.fields.iter().enumerate() {
                if at == usize::from(prefix.first_suffix_field) {
                    out.push_str("  -- may be missing from here on --\n");
                }
                field(out, at, &f);
            }
        }
        _ => out.push_str("  opaque\n"),
    }
    out.push('\n');
}

fn snapshot() -> String {
    let version = Plugin_Ref::LAYOUT.package_version();
    let table = |layout: &'static TypeLayout| {
        let inner = layout.phantom_fields().iter().next().expect("a prefix reference has a target");
        inner.layout()
    };
    let package = table(Plugin_Ref::LAYOUT).package();
    let mut out = format!(
        "abi {ABI_MAJOR}.{ABI_MINOR} symbol {ROOT_SYMBOL} package {package} described by abi_stable {version}\n\n"
    );
    TABLES.into_iter().for_each(|layout| describe(&mut out, table(layout)));
    DATA.into_iter().for_each(|layout| describe(&mut out, layout));
    out
}

#[test]
fn the_abi_is_the_one_that_was_agreed_upon() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/abi/v1.snap");
    let now = snapshot();
    assert_eq!(now, snapshot(), "the snapshot is the same in every run");
    if std::env::var_os("CRUCIBLE_RENEW_ABI").is_some() {
        std::fs::write(path, &now).expect("the snapshot can be written");
    }
    let agreed = std::fs::read_to_string(path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (agreed, now) = (lines(&agreed), lines(&now));
    let at = (0..agreed.len().max(now.len())).find(|at| agreed.get(*at) != now.get(*at));
    if let Some(at) = at {
        let show = |lines: &[String]| lines.get(at).cloned().unwrap_or("(end)".to_owned());
        panic!(
            "the ABI differs from abi/v1.snap, first in line {}:\n  agreed: {}\n  now:    {}",
            at + 1,
            show(&agreed),
            show(&now)
        );
    }
}
