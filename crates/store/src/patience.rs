//! Patience with what passes: requests are made again, after waits that double, and an object is gone on with at the byte
//! that was reached.

use std::time::Duration;

use crate::{Address, Error};

/// How a place is asked.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// The wait before a failed request is made again; it doubles each time, up to half a minute.
    pub retry_after: Duration,
    /// Attempts without a byte of progress before a failure counts.
    pub attempts: u32,
    /// The longest wait that a store asks for and gets.
    pub longest_wait: Duration,
    /// Bytes that one request of a stream asks for.
    pub request_bytes: u64,
}

impl Default for Manners {
    fn default() -> Self {
        Manners {
            retry_after: Duration::from_millis(500),
            attempts: 8,
            longest_wait: Duration::from_secs(300),
            request_bytes: 16 << 20,
        }
    }
}

/// The longest of the waits that double.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may go better the next time.
    Passing(String),
    /// The answer began well, and ended before this byte.
    Short { at: u64 },
    /// The store asks to wait, for so many seconds.
    Busy(String, Option<u64>),
    /// It will not.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Final(error)
    }
}

impl Manners {
    /// Tries until it succeeds or fails for good. `attempt` says whether it made progress, which begins the count anew;
    /// `bytes` is what the object should have, where there is one.
    pub(crate) fn patiently<T>(
        &self,
        address: &Address,
        bytes: u64,
        mut attempt: impl FnMut(&mut bool) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut failed = 0;
        loop {
            let mut moved = false;
            let failure = match attempt(&mut moved) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            failed = if moved { 1 } else { failed + 1 };
            let over = failed >= self.attempts;
            let backoff = LONGEST_BACKOFF.min(self.retry_after.saturating_mul(1 << (failed - 1).min(16)));
            let shown = || address.to_string();
            let wait = match failure {
                Failure::Final(error) => return Err(error),
                Failure::Passing(reason) if over => {
                    return Err(Error::Unreachable { address: shown(), reason });
                }
                Failure::Short { at } if over => {
                    return Err(Error::EndsEarly { address: shown(), at, bytes });
                }
                Failure::Passing(_) | Failure::Short { .. } => backoff,
                Failure::Busy(reason, seconds) => {
                    let wait = seconds.map_or(backoff, Duration::from_secs);
                    if over || wait > self.longest_wait {
                        return Err(Error::Busy { address: shown(), reason, seconds });
                    }
                    wait
                }
            };
            std::thread::sleep(wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_begins_the_count_anew() {
        let manners = Manners { retry_after: Duration::ZERO, attempts: 3, ..Manners::default() };
        let address = Address::parse("s3://b/k").unwrap();
        let mut calls = 0;
        let result = manners.patiently(&address, 9, |moved| {
            calls += 1;
            *moved = calls == 2;
            Err::<(), _>(Failure::Short { at: 4 })
        });
        assert_eq!(calls, 4);
        assert_eq!(result, Err(Error::EndsEarly { address: "s3://b/k".into(), at: 4, bytes: 9 }));
        let busy = |seconds| {
            manners.patiently(&address, 0, |_| Err::<(), _>(Failure::Busy("x".into(), seconds))).unwrap_err()
        };
        assert_eq!(
            busy(Some(301)),
            Error::Busy { address: "s3://b/k".into(), reason: "x".into(), seconds: Some(301) }
        );
        assert!(matches!(busy(Some(0)), Error::Busy { .. }));
    }
}
