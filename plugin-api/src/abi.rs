//! What crosses the boundary: frozen data, and tables that only grow.
//!
//! Rules, for as long as the major version of this crate stands:
//!
//! * data structs ([`op::Op`], [`turn::Turn`], ...) keep size, alignment and
//!   field order; they grow only into their reserved fields;
//! * tables ([`tables`]) only gain fields after their `last_prefix_field`;
//! * integers are newtypes with named constants: an unknown value is an
//!   unknown value, never undefined behaviour;
//! * parameters of function pointers are named `_`, because the layout check
//!   compares their names.
//!
//! Who calls it: the host's loader and workers, and the thunks of the SDK.

// `#[sabi(kind(Prefix))]` names its generated types with an underscore.
#![allow(non_camel_case_types, missing_docs)]

pub mod caps;
pub mod channels;
pub mod op;
pub mod status;
pub mod structure;
pub mod tables;
pub mod turn;
