//! The upper bound of logins that password hashing allows: concurrent verifications with the function
//! that a login calls, and nothing else. `npm run bench:origin` passes the duration in seconds; the
//! program prints one line of JSON.

#![allow(clippy::print_stdout, reason = "the output is its purpose")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use portcullis_client::secret::Secret;
use portcullis_origin::{
    auth::{Passwords, Priority},
    limits,
};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().find_map(|text| text.parse::<u32>().ok()).unwrap_or(4);
    let passwords = Passwords::new().await.map_err(|_| "passwords cannot be hashed")?;
    let password = Secret::new("correct horse battery staple".to_owned());
    let hashed = passwords.hash(&password, Priority::Known).await.map_err(|_| "passwords cannot be hashed")?;

    let used = cpu_us();
    let begun = Instant::now();
    let end = begun.checked_add(Duration::from_secs(seconds.into())).ok_or("too many seconds")?;
    let lanes: Vec<_> = (0..limits::HASHES)
        .map(|_| {
            let (passwords, password, hashed) = (passwords.clone(), password.clone(), hashed.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < end {
                    let from = Instant::now();
                    let permit = passwords.acquire(Priority::Known).await.map_err(|_| "no permit")?;
                    let (right, _) = permit.verify(&password, Some(&hashed)).await.map_err(|_| "no verification")?;
                    if !right {
                        return Err("the right password is wrong");
                    }
                    times.push(from.elapsed());
                }
                Ok::<_, &str>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for lane in lanes {
        times.extend(lane.await??);
    }
    let took = begun.elapsed();
    let used = cpu_us().zip(used).map(|(after, before)| after - before);

    times.sort_unstable();
    let count = u32::try_from(times.len())?;
    let at = |percent: usize| {
        let index = times.len().saturating_mul(percent) / 100;
        times.get(index).or(times.last()).map(|time| time.as_secs_f64() * 1e6)
    };
    let told = json!({
        "threads": limits::HASHES,
        "rate": f64::from(count) / took.as_secs_f64(),
        "p50": at(50),
        "p99": at(99),
        "cpuUs": used.map(|used| used / f64::from(count)),
    });
    println!("{told}");
    Ok(())
}

/// Returns the CPU time of this process in microseconds, as bench/servers.js measures that of a
/// service; `None` without proc(5).
fn cpu_us() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields 14 and 15, in clock ticks of 10 ms; the second field may contain spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u32>().ok());
    ticks.sum::<Option<u32>>().map(|ticks| f64::from(ticks) * 10_000.0)
}
