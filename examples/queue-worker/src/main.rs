// SPDX-License-Identifier: Apache-2.0
//! Takes jobs from a Redis list, transforms them, writes results back, and loses and repeats nothing however often it is
//! killed. A job is a line `ID TEXT`; its result goes to the hash `results`, under ID.
//!
//! The queue is reliable because each step is one atomic script: taking a job moves it to this worker's own list and
//! renews this worker's lease; finishing it removes it from that list and writes the result, or does neither when the
//! list does not hold it any more. Whoever finds a worker without a lease puts that worker's jobs back.
mod redis;

use redis::{Redis, Value};
use std::{env, process, thread, time::Duration};

const LEASE_MS: &str = "2000";

/// KEYS: jobs, workers, my list, my lease. ARGV: my name, milliseconds.
const TAKE: &str = "redis.call('SET', KEYS[4], '1', 'PX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[1])
return redis.call('LMOVE', KEYS[1], KEYS[3], 'LEFT', 'RIGHT')";

/// KEYS: my list, results, how many were done. ARGV: the job, its id, its result.
const FINISH: &str = "if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return redis.call('INCR', KEYS[3])";

/// KEYS: jobs, workers, the worker's list, its lease. ARGV: the worker. Returns how many jobs are unfinished.
const RESCUE: &str = "if redis.call('EXISTS', KEYS[4]) == 1 then return redis.call('LLEN', KEYS[3]) end
local n = redis.call('LLEN', KEYS[3])
for _ = 1, n do redis.call('LMOVE', KEYS[3], KEYS[1], 'RIGHT', 'LEFT') end
redis.call('SREM', KEYS[2], ARGV[1])
return n";

struct Worker {
    redis: Redis,
    name: String,
    list: String,
    lease: String,
}

impl Worker {
    fn take(&mut self) -> redis::Result<Option<String>> {
        let keys = ["jobs", "workers", &self.list, &self.lease];
        match self.redis.script(TAKE, &keys, &[&self.name, LEASE_MS])? {
            Value::Text(job) => Ok(Some(job)),
            _ => Ok(None),
        }
    }

    fn finish(&mut self, job: &str, id: &str, result: &str) -> redis::Result<bool> {
        let done = self.redis.script(FINISH, &[&self.list, "results", "done"], &[job, id, result])?;
        Ok(done != Value::Number(0))
    }

    /// Puts back what workers left that are gone. Returns how many jobs somebody still has.
    fn rescue(&mut self) -> redis::Result<i64> {
        let Value::List(workers) = self.redis.call(&["SMEMBERS", "workers"])? else { return Ok(0) };
        let mut unfinished = 0;
        for worker in workers.into_iter().filter_map(Value::text) {
            let (list, lease) = (format!("taken:{worker}"), format!("lease:{worker}"));
            let keys = ["jobs", "workers", &list, &lease];
            if let Value::Number(n) = self.redis.script(RESCUE, &keys, &[&worker])? {
                unfinished += n;
            }
        }
        Ok(unfinished)
    }
}

/// The work itself: the words in reverse order, in upper case. WORK_MS makes it harder.
fn transform(text: &str) -> String {
    if let Some(ms) = env::var("WORK_MS").ok().and_then(|ms| ms.parse().ok()) {
        thread::sleep(Duration::from_millis(ms));
    }
    text.split_whitespace().rev().collect::<Vec<_>>().join(" ").to_uppercase()
}

fn run() -> redis::Result<()> {
    let address = env::var("REDIS").unwrap_or_else(|_| "redis:6379".into());
    let name = env::var("WORKER").or_else(|_| env::var("HOSTNAME")).unwrap_or_else(|_| "worker".into());
    let mut worker = Worker {
        redis: Redis::connect(&address)?,
        list: format!("taken:{name}"),
        lease: format!("lease:{name}"),
        name,
    };
    let (mut finished, mut late) = (0, 0);
    worker.rescue()?; // with a lease that is still there, this is for later
    loop {
        while let Some(job) = worker.take()? {
            let (id, text) = job.split_once(' ').unwrap_or((&job, ""));
            if worker.finish(&job, id, &transform(text))? {
                finished += 1;
            } else {
                late += 1; // our lease was over: somebody else has it
            }
        }
        if worker.rescue()? == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    println!("{}: {finished} jobs finished, {late} left to others", worker.name);
    Ok(())
}

fn main() {
    if let Err(why) = run() {
        eprintln!("queue-worker: {why}");
        process::exit(1);
    }
}
