//! What an operator watches: counts and times of requests, as Prometheus reads them. The engine's own counters are asked
//! for at each scrape; everything else is observed once, when a request or a sequence ends.

use std::fmt;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use engine::{Engine, FinishReason, Timing, Usage};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The type of OpenMetrics' text, for those who ask for it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From the answer of a cached prompt to that of a long queue.
const SECONDS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0];
/// One token: from a small model alone to a large one in a full batch.
const TOKEN_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5];
const TOKENS: [f64; 15] = [
    1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0,
    131072.0,
];

/// Counts open connections, for all that share it.
pub(crate) type Open = Gauge<i64, AtomicI64>;
type Times = Family<Endpoint, Histogram, fn() -> Histogram>;

/// All counters of one server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Outcome, Counter>,
    durations: Times,
    first_tokens: Times,
    token_times: Histogram,
    queue_times: Histogram,
    prompt_lengths: Histogram,
    answer_lengths: Histogram,
    sequences: Family<Reason, Counter>,
    models: Family<Model, Counter>,
    connections: Open,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    endpoint: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Endpoint {
    endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Model {
    model: String,
}

impl Metrics {
    /// Metrics of a server over `engine`, all at zero.
    pub(crate) fn new(engine: Engine, connections: Open) -> Self {
        let times: fn() -> Histogram = || Histogram::new(SECONDS);
        let metrics = Metrics {
            registry: Registry::with_prefix("alti"),
            requests: Family::default(),
            durations: Family::new_with_constructor(times),
            first_tokens: Family::new_with_constructor(times),
            token_times: Histogram::new(TOKEN_SECONDS),
            queue_times: Histogram::new(SECONDS),
            prompt_lengths: Histogram::new(TOKENS),
            answer_lengths: Histogram::new(TOKENS),
            sequences: Family::default(),
            models: Family::default(),
            connections,
        };
        metrics.registered(engine)
    }

    fn registered(mut self, engine: Engine) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "Requests that ended, by route and status; 499: the client left",
            self.requests.clone(),
        );
        let seconds = |registry: &mut Registry, name: &str, help: &str, times: &Times| {
            registry.register_with_unit(name, help, Unit::Seconds, times.clone());
        };
        seconds(
            registry,
            "request_duration",
            "From the request's header to the last byte of its answer",
            &self.durations,
        );
        seconds(
            registry,
            "time_to_first_token",
            "From the request's header to its first token",
            &self.first_tokens,
        );
        let second = |registry: &mut Registry, name: &str, help: &str, times: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, times.clone());
        };
        second(
            registry,
            "time_per_output_token",
            "Of a sequence, from its first token to its last, for each between",
            &self.token_times,
        );
        second(
            registry,
            "queue_time",
            "From a sequence's submission until its prompt was begun",
            &self.queue_times,
        );
        registry.register(
            "request_prompt_tokens",
            "Tokens of a sequence's prompt",
            self.prompt_lengths.clone(),
        );
        registry.register(
            "request_generation_tokens",
            "Tokens of a sequence's answer",
            self.answer_lengths.clone(),
        );
        registry.register("sequences", "Sequences that ended, by reason", self.sequences.clone());
        registry.register(
            "model_sequences",
            "Sequences that were begun, by the model or the adapter that was asked for",
            self.models.clone(),
        );
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register_collector(Box::new(EngineState(engine)));
        self
    }

    /// A request has ended. `endpoint` is the route's pattern, so that there are few of them.
    pub(crate) fn request(
        &self,
        endpoint: &str,
        method: &'static str,
        status: u16,
        duration: Duration,
        first_token: Option<Duration>,
    ) {
        let outcome = Outcome { endpoint: endpoint.into(), method, status };
        self.requests.get_or_create(&outcome).inc();
        let endpoint = Endpoint { endpoint: endpoint.into() };
        self.durations.get_or_create(&endpoint).observe(duration.as_secs_f64());
        if let Some(first_token) = first_token {
            self.first_tokens.get_or_create(&endpoint).observe(first_token.as_secs_f64());
        }
    }

    /// A sequence was begun; `model` is a name that this server knows, so that there are few of them.
    pub(crate) fn begun(&self, model: &str) {
        self.models.get_or_create(&Model { model: model.into() }).inc();
    }

    /// A sequence has ended by itself.
    pub(crate) fn sequence(&self, reason: FinishReason, usage: &Usage, timing: &Timing) {
        let reason = match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
        };
        self.sequences.get_or_create(&Reason { reason }).inc();
        self.queue_times.observe(timing.queued.as_secs_f64());
        self.prompt_lengths.observe(usage.prompt_tokens as f64);
        self.answer_lengths.observe(usage.completion_tokens as f64);
        if usage.completion_tokens > 1 {
            let between = (usage.completion_tokens - 1) as f64;
            self.token_times.observe(timing.decode.as_secs_f64() / between);
        }
    }

    /// A sequence has ended because its client left, or because it failed.
    pub(crate) fn sequence_lost(&self, reason: &'static str) {
        self.sequences.get_or_create(&Reason { reason }).inc();
    }

    /// All of them, and the type of the text: OpenMetrics where `accept` names it, else Prometheus' own.
    pub(crate) fn page(&self, accept: &str) -> (&'static str, String) {
        let mut page = String::new();
        // Writing to a string cannot fail.
        let (kind, _) = if accept.contains("application/openmetrics-text") {
            (OPEN_METRICS, text::encode(&mut page, &self.registry))
        } else {
            (prometheus_text::CONTENT_TYPE, prometheus_text::encode(&mut page, &self.registry))
        };
        (kind, page)
    }
}

/// The engine's counters, as they are when somebody asks.
struct EngineState(Engine);

impl fmt::Debug for EngineState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EngineState")
    }
}

impl Collector for EngineState {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let stats = self.0.stats();
        let settings = self.0.settings();
        let gauges = [
            ("sequences_running", "Sequences in the running batch", stats.running),
            ("sequences_waiting", "Sequences that wait for room in it", stats.waiting),
            ("sequences_running_limit", "Sequences that can run at once", settings.max_sequences),
            ("sequences_waiting_limit", "Sequences that can wait; the next is refused", settings.max_queue),
            (
                "cache_tokens",
                "Tokens of cache that the running batch holds, in whole pages",
                stats.cache_tokens,
            ),
            (
                "cache_kept_tokens",
                "Tokens of cache kept for prompts that begin in the same way",
                stats.kept_tokens,
            ),
            ("adapters", "Adapters that can be asked for", self.0.adapters().len()),
            (
                "adapter_bytes",
                "Bytes of the adapters in memory, with unloaded ones that still answer",
                stats.adapter_bytes,
            ),
            ("cache_tokens_limit", "Tokens that the cache can hold, in whole pages", self.0.cache_tokens()),
            ("context_tokens", "Most tokens of one sequence, prompt and answer together", self.0.context()),
            ("up", "1 while the engine works, else 0", usize::from(self.0.is_running())),
        ];
        for (name, help, value) in gauges {
            let value = ConstGauge::new(value as i64);
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let counters = [
            ("prompt_tokens", "Tokens of prompts that were read", stats.prompt_tokens),
            (
                "prompt_tokens_cached",
                "Tokens of prompts that were found in the cache instead",
                stats.cached_tokens,
            ),
            ("generation_tokens", "Tokens that were generated", stats.completion_tokens),
            ("draft_tokens", "Tokens guessed by speculative decoding", stats.drafted_tokens),
            ("draft_tokens_accepted", "Those of them that were right", stats.accepted_tokens),
        ];
        for (name, help, value) in counters {
            let value = ConstCounter::new(value);
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}
