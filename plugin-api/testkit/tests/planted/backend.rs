//! A model backend with one defect, chosen by its settings. Shared by the
//! suite's own test and by the library that the host's `plugin check` is shown.
//!
//! # Safety
//! The defects lie in answers and decisions; views still point to live values.
#![allow(unsafe_code)]

use std::cell::Cell;

use crucible_plugin_api::abi::op::{Buf, ItemView, item_kind};
use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{
    Backend, Batch, Body, BodyToken, Capabilities, Condition, Env, Item, Op, OpCode, Opts,
    PluginError, Status, StructFlags, WorkerCtx,
};
use crucible_plugin_testkit::{ModelBackend, ModelWorker};

/// A model with one defect.
pub(crate) struct Planted {
    inner: ModelBackend,
    defect: String,
}

/// Which defect.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub(crate) struct Settings {
    /// Its name, as `execute` and the others know it; `none` or empty for none.
    pub(crate) defect: String,
}

/// One worker's state.
pub(crate) struct Worker {
    inner: ModelWorker,
    calls: Cell<u64>,
    /// Values shown through memory that is reused.
    scratch: Box<[u8]>,
}

impl Planted {
    fn has(&self, defect: &str) -> bool {
        self.defect == defect
    }
}

impl Backend for Planted {
    type Settings = Settings;
    type Worker = Worker;

    fn create(settings: Settings, env: &Env) -> Result<Self, PluginError> {
        Ok(Self { inner: ModelBackend::create(Default::default(), env)?, defect: settings.defect })
    }

    fn capabilities(&self) -> Capabilities {
        let mut caps = self.inner.capabilities();
        if self.has("takes longer keys") {
            caps.key_len_max = 100;
        }
        caps
    }

    fn worker(&self, ctx: WorkerCtx) -> Worker {
        let inner = self.inner.worker(ctx);
        Worker { inner, calls: Cell::new(0), scratch: vec![0; 1 << 20].into() }
    }

    fn execute(&self, worker: &mut Worker, batch: &mut Batch<'_, '_>) {
        if self.has("answers the batch backwards") {
            batch.reverse();
        }
        let raw = |op: &mut Op<'_>, change: &dyn Fn(&mut crucible_plugin_api::abi::op::Op)| {
            // SAFETY: integers and shorter lengths of borrowed bytes only.
            change(unsafe { op.raw_mut() });
        };
        let mut asked = Vec::new();
        for op in batch.iter_mut() {
            asked.push(*op.raw());
            let condition = op.raw().condition;
            let clear = |bit: Opts| {
                move |op: &mut crucible_plugin_api::abi::op::Op| {
                    op.opts = Opts(op.opts.0 & !bit.0);
                }
            };
            let always = |op: &mut crucible_plugin_api::abi::op::Op| {
                op.condition = Condition::ALWAYS;
            };
            let is_struct = op.code() == OpCode::STRUCT;
            let set = |bit: StructFlags| {
                move |op: &mut crucible_plugin_api::abi::op::Op| op.flags |= bit.0
            };
            let unset = |bit: StructFlags| {
                move |op: &mut crucible_plugin_api::abi::op::Op| op.flags &= !bit.0
            };
            match self.defect.as_str() {
                "ignores IF_ABSENT" if condition == Condition::IF_ABSENT => raw(op, &always),
                "ignores IF_EQUAL" if condition == Condition::IF_EQUAL => raw(op, &always),
                "accepts any token" if condition == Condition::IF_CAS => raw(op, &always),
                "forgets KEEP_TTL" => raw(op, &clear(Opts::KEEP_TTL)),
                "forgets KEEP_FLAGS" => raw(op, &clear(Opts::KEEP_FLAGS)),
                "returns the new for the old" => raw(op, &clear(Opts::RETURN_OLD)),
                "unsigned like signed" => raw(op, &clear(Opts::UNSIGNED)),
                "loses marks" => raw(op, &|op| op.marks = 0),
                "loses the new token" => raw(op, &|op| op.new_cas = 0),
                "rounds deadlines up" => raw(op, &|op| {
                    op.expires_at_ms = op.expires_at_ms.next_multiple_of(1000);
                }),
                "touches nothing" if op.code() == OpCode::TOUCH => {
                    raw(op, &|op| op.code = OpCode::META);
                }
                "inserts before the pivot" if is_struct => raw(op, &set(StructFlags::BEFORE)),
                "ranges forwards only" if is_struct => raw(op, &unset(StructFlags::REV)),
                "forgets to store an outcome" if is_struct => raw(op, &unset(StructFlags::STORE)),
                "fields without deadlines" if is_struct => {
                    raw(op, &unset(StructFlags::FIELD_TTL));
                }
                "structures live for ever" if is_struct => raw(op, &|op| op.expires_at_ms = 0),
                "truncates long values" if op.val().len() > 50_000 => {
                    raw(op, &|op| op.val.len = 50_000);
                }
                _ => {}
            }
        }
        self.inner.execute(&mut worker.inner, batch);
        for (op, asked) in batch.iter_mut().zip(asked) {
            raw(op, &|op| {
                (op.code, op.condition, op.opts) = (asked.code, asked.condition, asked.opts);
                (op.marks, op.new_cas, op.val) = (asked.marks, asked.new_cas, asked.val);
                (op.expires_at_ms, op.flags) = (asked.expires_at_ms, asked.flags);
            });
            worker.calls.set(worker.calls.get() + 1);
            match self.defect.as_str() {
                "forgets a status" if worker.calls.get().is_multiple_of(50) => {
                    op.set_status(Status(i32::MIN));
                }
                "a structure is a miss" if op.status() == Status::WRONG_TYPE => {
                    op.set_status(Status::MISS);
                }
                "loses the last of many elements" if op.elements().len() > 2 => {
                    raw(op, &|op| op.out.len -= 1);
                }
                "answers no token" => raw(op, &|op| op.out.cas = 0),
                "answers NOT_STORED for MISS" if op.status() == Status::MISS => {
                    op.set_status(Status::NOT_STORED);
                }
                "reuses the memory of views" if op.code() == OpCode::GET => {
                    let view = op.raw().out;
                    if view.kind != item_kind::CONTIGUOUS || view.len as usize > (1 << 20) {
                        continue;
                    }
                    // SAFETY: the model's view is valid here.
                    let value = unsafe { Buf { ptr: view.ptr, len: view.len as usize }.bytes() };
                    worker.scratch[..value.len()].copy_from_slice(value);
                    let ptr = worker.scratch.as_ptr();
                    // SAFETY: the scratch lives as long as the worker, which is
                    // not to say that it stays unchanged.
                    unsafe { op.set_view(ItemView { ptr, ..view }) };
                }
                _ => {}
            }
        }
        if self.has("answers the batch backwards") {
            batch.reverse();
        }
    }

    fn retain(&self, worker: &mut Worker, view: &ItemView) -> Option<u64> {
        self.inner.retain(&mut worker.inner, view)
    }

    fn reserve(&self, worker: &mut Worker, op: &Op<'_>) -> Result<Body, Status> {
        worker.calls.set(worker.calls.get() + 1);
        if self.has("never takes bodies back") && worker.calls.get() > 1000 {
            return Err(Status::NO_MEMORY);
        }
        self.inner.reserve(&mut worker.inner, op)
    }

    fn abort(&self, worker: &mut Worker, token: BodyToken) {
        self.inner.abort(&mut worker.inner, token);
    }

    fn leave(&self, worker: &mut Worker) {
        self.inner.leave(&mut worker.inner);
    }

    fn flush(&self, worker: &mut Worker, delay_ms: u64) -> Status {
        if self.has("flush keeps one") && delay_ms == 0 {
            return Status::OK;
        }
        self.inner.flush(&mut worker.inner, delay_ms)
    }

    fn scan(
        &self,
        worker: &mut Worker,
        cursor: u64,
        budget: u32,
        visit: &mut dyn FnMut(&[u8], &Item<'_>) -> bool,
    ) -> Result<u64, Status> {
        let mut n = 0;
        self.inner.scan(&mut worker.inner, cursor, budget, &mut |key, item| {
            n += 1;
            self.has("scan skips") && n == 7 || visit(key, item)
        })
    }

    fn stats(&self, worker: &mut Worker, section: &str, visit: &mut dyn FnMut(&str, &str)) {
        self.inner.stats(&mut worker.inner, section, visit);
    }
}
