//! A circuit breaker for one target.
//!
//! Consecutive failures open the circuit. After an open period one request, the probe, tests the
//! target: its success closes the circuit, its failure opens it again for twice as long, up to a
//! bound. The first open period is a second, because services that restart are back within
//! seconds; a long outage costs the target about one request per bound.

/// Milliseconds of the first open period.
pub const FIRST_OPEN_MS: u64 = 1_000;

/// When the circuit opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Consecutive failures that open the circuit; 0 for never.
    pub failures: u32,
    /// Milliseconds of an open period at most.
    pub longest_open_ms: u64,
    /// Milliseconds after which a probe without an outcome counts as lost and the next request
    /// becomes the probe.
    pub probe_timeout_ms: u64,
}

/// Whether a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerDecision {
    /// Send the request.
    Pass {
        /// How often the circuit had opened before.
        openings: u32,
    },
    /// Send the request, as the probe.
    Probe {
        /// When the probe began; distinguishes it from a later one.
        since_ms: u64,
    },
    /// Do not send the request.
    Refuse {
        /// Milliseconds until the next probe.
        retry_ms: u64,
    },
}

/// What a request says about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// The target works.
    Success,
    /// The target does not work.
    Failure,
    /// Nothing: the client went away, for example.
    Unknown,
}

/// State of the circuit, the better before the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// The probe has no outcome yet.
    HalfOpen,
    /// No request passes.
    Open,
}

impl BreakerState {
    /// Returns the name for status pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// Returns the value for metrics: 0 closed, 1 half open, 2 open.
    pub const fn gauge(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { since_ms: u64, open_ms: u64 },
    HalfOpen { since_ms: u64, open_ms: u64, probe_timeout_ms: u64 },
}

/// The circuit of one target. Settings and `now_ms` are arguments of each call; all calls use one
/// clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    state: State,
    openings: u32,
}

impl Default for Breaker {
    /// Returns a closed circuit.
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 }, openings: 0 }
    }
}

impl Breaker {
    /// Decides whether a request may be sent. [`Breaker::record`] expects the outcome of each
    /// request that may.
    pub fn admit(&mut self, settings: BreakerSettings, now_ms: u64) -> BreakerDecision {
        let (since_ms, wait_ms, open_ms) = match self.state {
            State::Closed { .. } => return BreakerDecision::Pass { openings: self.openings },
            State::Open { since_ms, open_ms } => (since_ms, open_ms, open_ms),
            State::HalfOpen { since_ms, open_ms, probe_timeout_ms } => (since_ms, probe_timeout_ms, open_ms),
        };
        // If the clock was ahead and is set back, the circuit must not stay open until it has caught up.
        let waited = now_ms.abs_diff(since_ms);
        if waited < wait_ms {
            return BreakerDecision::Refuse { retry_ms: wait_ms.saturating_sub(waited) };
        }
        self.state = State::HalfOpen { since_ms: now_ms, open_ms, probe_timeout_ms: settings.probe_timeout_ms };
        BreakerDecision::Probe { since_ms: now_ms }
    }

    /// Returns whether [`Breaker::admit`] would let a request pass, without making it the probe.
    pub fn would_admit(&self, settings: BreakerSettings, now_ms: u64) -> bool {
        !matches!({ *self }.admit(settings, now_ms), BreakerDecision::Refuse { .. })
    }

    /// Records what an admitted request says about the target.
    pub fn record(
        &mut self,
        decision: BreakerDecision,
        observation: Observation,
        settings: BreakerSettings,
        now_ms: u64,
    ) {
        use BreakerDecision::{Pass, Probe, Refuse};
        use Observation::{Failure, Success, Unknown};
        self.state = match (self.state, decision, observation) {
            (state, Refuse { .. }, _) => state,
            // Sent before the circuit opened: says nothing about the present.
            (state, Pass { openings }, _) if openings != self.openings => state,
            // The next request may probe at once.
            (State::HalfOpen { since_ms, open_ms, .. }, Probe { since_ms: own }, Unknown) if since_ms == own => {
                State::Open { since_ms: now_ms.saturating_sub(open_ms), open_ms }
            }
            (state, _, Unknown) => state,
            // However late: the target answered.
            (_, Probe { .. }, Success) => State::Closed { failures: 0 },
            // Also for a probe that counted as lost: its successor goes to the same target.
            (State::HalfOpen { open_ms, .. }, Probe { .. }, Failure) => {
                State::Open { since_ms: now_ms, open_ms: open_ms.saturating_mul(2).min(settings.longest_open_ms) }
            }
            // The circuit closed, or opened, since this probe was sent.
            (state, Probe { .. }, Failure) => state,
            (State::Closed { failures }, Pass { .. }, Failure) => {
                let failures = failures.saturating_add(1);
                if settings.failures > 0 && failures >= settings.failures {
                    self.openings = self.openings.wrapping_add(1);
                    State::Open { since_ms: now_ms, open_ms: FIRST_OPEN_MS.min(settings.longest_open_ms) }
                } else {
                    State::Closed { failures }
                }
            }
            (State::Closed { .. }, Pass { .. }, Success) => State::Closed { failures: 0 },
            (state @ (State::Open { .. } | State::HalfOpen { .. }), Pass { .. }, _) => state,
        };
    }

    /// Returns the state of the circuit.
    pub const fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}
