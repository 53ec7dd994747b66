//! Commands that run when they are answered: their arguments travel as idle operations.

use crucible_plugin_api::Op;

use super::Ops;
use crate::frame::Args;
use crate::table::Cmd;
use crate::ticket::Ticket;

/// Carries a command to its reply. A barrier when it may change the connection, wait, walk over the
/// store or flush it.
pub fn carry<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>, barrier: bool) {
    for arg in args.from(0) {
        q.op(Op::nop(arg));
    }
    if barrier { q.end_barrier(Ticket::Cold(command)) } else { q.end(Ticket::Cold(command)) }
}
