//! Key events: what a crossing changed is told to who asked for it, and what others changed to the
//! protocol.
//!
//! # Safety
//! The host's events are valid for the call that brings them.
#![allow(unsafe_code)]

use super::Engine;
use crate::abi::op::OpCode;
use crate::abi::turn::{KeyEvent as RawKeyEvent, Turn, key_event};
use crate::env::{KeyEvent, KeyEventKind};
use crate::op::Op;
use crate::protocol::Protocol;
use crate::protocol::queue::{Planned, events_of};
use crate::thunk::guard;

impl<P: Protocol> Engine<P> {
    pub(super) fn tell_events(&self, turns: &[Turn], ops: &[Op<'_>], plan: &[Planned<P::Ticket>]) {
        let wanted = self.service.ctx().wanted_events();
        for planned in plan {
            let conn_id = turns[planned.turn as usize].conn_id;
            for op in &ops[planned.ops_start as usize..planned.ops_end as usize] {
                let kind = self.queue.event_of(op) & wanted;
                let value_len = match op.code() {
                    OpCode::STRUCT => op.elements().len() as u64,
                    _ if kind == key_event::STORED => op.val().len() as u64,
                    _ => op.item().map_or(0, |item| item.len() as u64),
                };
                self.tell(kind, op.key(), conn_id, value_len);
                if op.code() == OpCode::STRUCT
                    && let Some(other) = op.other_key()
                {
                    let kind = events_of(op.key_changes().of_other()) & wanted;
                    self.tell(kind, other, conn_id, value_len);
                }
            }
        }
    }

    /// Emits an event for each bit of `kinds`.
    fn tell(&self, mut kinds: u32, key: &[u8], conn_id: u64, value_len: u64) {
        while kinds != 0 {
            let kind = KeyEventKind(kinds & kinds.wrapping_neg());
            kinds &= kinds - 1;
            self.service.ctx().emit(KeyEvent { kind, key, conn_id, value_len });
        }
    }

    pub(crate) fn key_events(&mut self, protocol: &P, events: &[RawKeyEvent]) {
        let events: Vec<KeyEvent<'_>> =
            // SAFETY: the host's events are valid for this call.
            events.iter().map(|raw| unsafe { KeyEvent::from_raw(raw) }).collect();
        let _told_by_the_hook = guard(|| protocol.key_events(&mut self.worker, &events));
    }
}
