//! How an instance ended, in the words that `wh_outcome` has.
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::{PoolConcurrencyLimitError, ThrownException, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::Deadline;
use super::ffi::{
    END_DEADLINE, END_EXIT, END_TRAP, Outcome, TRAP_EXCEPTION, TRAP_HOST, TRAP_OTHER, TRAP_OUT_OF_MEMORY,
};

unsafe extern "C" {
    fn wh_trap_name(trap: c_int) -> *const c_char;
}

fn trap_name(trap: c_int) -> &'static str {
    // SAFETY: a static C string for any number.
    unsafe { CStr::from_ptr(wh_trap_name(trap)) }.to_str().unwrap_or("trap")
}

/// The number in `wh_trap`.
fn trap_number(trap: Trap) -> c_int {
    match trap {
        Trap::UnreachableCodeReached => 1,
        Trap::StackOverflow => 2,
        Trap::MemoryOutOfBounds => 3,
        Trap::HeapMisaligned => 4,
        Trap::TableOutOfBounds => 5,
        Trap::IndirectCallToNull => 6,
        Trap::BadSignature => 7,
        Trap::IntegerOverflow => 8,
        Trap::IntegerDivisionByZero => 9,
        Trap::BadConversionToInteger => 10,
        Trap::NullReference => 11,
        Trap::ArrayOutOfBounds => 12,
        Trap::CastFailure => 13,
        Trap::AllocationTooLarge => TRAP_OUT_OF_MEMORY,
        _ => TRAP_OTHER,
    }
}

/// The reason, and behind it the frames, a line each.
fn say(outcome: &mut Outcome, reason: &str, error: &wasmtime::Error) {
    let mut text = reason.to_owned();
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let frames = backtrace.to_string();
        for line in frames.lines().skip_while(|l| !l.trim_start().starts_with("0:")) {
            text.push('\n');
            text.push_str(line);
        }
    }
    outcome.say(&text);
}

pub fn of(error: &wasmtime::Error, refused: &AtomicBool) -> Outcome {
    let mut outcome = Outcome { memory_refused: refused.load(Ordering::Relaxed), ..Outcome::ok() };
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        outcome.end = END_EXIT;
        outcome.exit_code = *code;
        return outcome;
    }
    if error.is::<Deadline>() {
        outcome.end = END_DEADLINE;
        say(&mut outcome, "the deadline has passed", error);
        return outcome;
    }
    outcome.end = END_TRAP;
    let cause = error.root_cause().to_string();
    outcome.trap = if let Some(trap) = error.downcast_ref::<Trap>() {
        trap_number(*trap)
    } else if error.is::<PoolConcurrencyLimitError>() {
        TRAP_OUT_OF_MEMORY
    } else if error.is::<ThrownException>() {
        TRAP_EXCEPTION
    } else if cause.contains("out of memory") || cause.contains("memory limit") || outcome.memory_refused {
        TRAP_OUT_OF_MEMORY
    } else {
        TRAP_OTHER
    };
    let reason = match outcome.trap {
        TRAP_OTHER => cause,
        TRAP_OUT_OF_MEMORY => format!("{}: {cause}", trap_name(TRAP_OUT_OF_MEMORY)),
        trap => trap_name(trap).to_owned(),
    };
    say(&mut outcome, &reason, error);
    outcome
}

pub fn of_panic() -> Outcome {
    let mut outcome = Outcome { end: END_TRAP, trap: TRAP_HOST, ..Outcome::ok() };
    outcome.say("the engine failed inside (a bug; its message is on standard error)");
    outcome
}
