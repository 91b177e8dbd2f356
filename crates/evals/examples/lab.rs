//! Throw-away.
#![allow(clippy::print_stdout, clippy::print_stderr)]
use ledger::progress::{Progress, Silent, Task, Unit};
use ledger::seed::Seed;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
struct P;
struct T(String, std::time::Instant, std::sync::atomic::AtomicU64);
impl Progress for P {
    fn begin(&self, l: &str, t: Option<u64>, _u: Unit) -> Box<dyn Task> {
        println!("[{l} {t:?}]");
        Box::new(T(l.into(), std::time::Instant::now(), Default::default()))
    }
    fn note(&self, t: &str) {
        println!("note {t}")
    }
    fn warn(&self, t: &str) {
        println!("warn {t}")
    }
}
impl Task for T {
    fn advance(&self, n: u64) {
        self.2.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }
    fn position(&self, n: u64) {
        self.2.store(n, std::sync::atomic::Ordering::Relaxed);
    }
    fn message(&self, t: &str) {
        let n = self.2.load(std::sync::atomic::Ordering::Relaxed);
        if n % 100 < 1 {
            println!("  {} {n} {:.0}s {t}", self.0, self.1.elapsed().as_secs_f64());
        }
    }
}
fn texts(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(r) = std::fs::read_dir(dir) else { return };
    for e in r.flatten() {
        let p = e.path();
        if p.is_dir() {
            texts(&p, out)
        } else if p.extension().is_some_and(|x| x == "rs" || x == "md")
            && e.metadata().is_ok_and(|m| m.len() < 200_000)
        {
            out.push(p)
        }
    }
}
fn main() {
    let args: BTreeMap<String, String> = std::env::args()
        .skip(1)
        .filter_map(|a| a.split_once('=').map(|(a, b)| (a.into(), b.into())))
        .collect();
    let get = |k: &str, d: f64| args.get(k).map_or(d, |v| v.parse().unwrap());
    let lab = Path::new("/tmp/lab");
    let threads = get("threads", 2.0) as usize;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let (tok, docs) = {
        let mut f = vec![];
        texts(&corpus::registry::default_root().unwrap(), &mut f);
        f.sort();
        Seed(0).stream("x", 0).shuffle(&mut f);
        let mut n = 0;
        let t: Vec<String> = f
            .iter()
            .filter_map(|p| std::fs::read_to_string(p).ok())
            .take_while(|t| {
                n += t.len();
                n < 12_000_000
            })
            .collect();
        let dir = lab.join("tok");
        let tok = if dir.exists() {
            tokenizer::Tokenizer::load(&dir).unwrap()
        } else {
            let t = tokenizer::train::train(
                t.iter(),
                &tokenizer::train::Settings { vocab_size: 4096, ..Default::default() },
                &P,
            )
            .unwrap();
            t.save(&dir).unwrap();
            t
        };
        let docs: Vec<Vec<u32>> = t
            .iter()
            .map(|t| {
                let mut v = vec![tok.bos()];
                v.extend(tok.encode(t));
                v.push(tok.eos());
                v
            })
            .collect();
        (tok, docs)
    };
    let held = docs[..20].to_vec();
    let train_docs = docs[20..].to_vec();
    let stop = AtomicBool::new(false);
    let base_dir = lab.join("base_hf");
    let mut settings = train::Settings {
        tokens: Some(train::quantity::Tokens(get("pre", 500_000.0) as u64)),
        ..Default::default()
    };
    settings.checkpoint_interval = train::quantity::Seconds(1e6);
    let plan = settings.plan(train::Size::Tiny).unwrap();
    let scratch = lab.join(format!("run{}", std::process::id()));
    let base = if base_dir.join("config.json").exists() {
        model::hf::load(&base_dir).unwrap()
    } else {
        let batches =
            train::PackedBatches::new(train_docs, plan.seq_len, plan.rows, plan.accumulation, Seed(1))
                .unwrap();
        let init = model::Weights::init(&plan.model, &mut Seed(1).stream("init", 0)).unwrap();
        let train::Outcome::Finished(f) = train::run(train::Job {
            stage: "pretrain",
            settings: &settings,
            schedule: plan.schedule(&settings),
            rows: plan.rows,
            seq_len: plan.seq_len,
            accumulation: plan.accumulation,
            batches: &batches,
            inputs: Default::default(),
            initial: init,
            checkpoints: scratch.join("ck"),
            metrics: scratch.clone(),
            progress: &P,
            stop: &stop,
        })
        .unwrap() else {
            panic!()
        };
        println!("pretrain loss {} {} tok/s", f.final_loss, f.tokens_per_second);
        model::hf::save(&base_dir, &f.weights, &model::hf::SaveOptions::new(tok.bos(), vec![tok.eos()]))
            .unwrap();
        f.weights
    };
    let packages = corpus::registry::packages().unwrap();
    println!("{} packages", packages.len());
    let mut sft = align::Settings {
        tokens: Some(train::quantity::Tokens(get("tokens", 1_000_000.0) as u64)),
        ..Default::default()
    };
    if let Some(v) = args.get("lr") {
        sft.learning_rate = Some(v.parse().unwrap())
    }
    if let Some(v) = args.get("rows") {
        sft.rows = Some(v.parse().unwrap())
    }
    for k in align::tasks::Kind::ALL {
        if let Some(v) = args.get(k.name()) {
            sft.mixture.insert(k, v.parse().unwrap());
        } else if args.contains_key("only") {
            sft.mixture.insert(k, 0.0);
        }
    }
    let tasks = align::tasks::Tasks::new(&packages, sft.packages);
    let items = tasks.held_out(Seed(1), get("items", 48.0) as usize);
    let eval = evals::Settings::default();
    let ev = |name: &str, w: &model::Weights| {
        let t = std::time::Instant::now();
        let e = evals::evaluate(evals::Job {
            model: name,
            settings: &eval,
            weights: w,
            tokenizer: &tok,
            items: &items,
            documents: &held,
            precision: Default::default(),
            seed: Seed(1),
            out: &scratch.join(name),
            progress: &Silent,
        })
        .unwrap();
        println!("== {name} in {:.0}s bpb {:.3}", t.elapsed().as_secs_f64(), e.bits.unwrap().bits_per_byte);
        for s in &e.scores {
            println!("{:18} {:3}/{:3} {:.2}", s.kind.name(), s.right, s.items, s.accuracy);
        }
        if name != "base" {
            for g in &e.generations {
                println!("{:?} -> {:?}", g.prompt, g.text);
            }
            for s in &e.scores {
                let f = std::fs::read_dir(scratch.join(name))
                    .unwrap()
                    .flatten()
                    .find(|f| f.file_name().to_str().unwrap().starts_with(&format!("samples_{}_2", s.kind)))
                    .unwrap()
                    .path();
                for l in std::fs::read_to_string(f)
                    .unwrap()
                    .lines()
                    .filter(|l| l.contains("\"acc\":0.0"))
                    .take(get("show", 4.0) as usize)
                {
                    let v: serde_json::Value = serde_json::from_str(l).unwrap();
                    println!(
                        "  BAD {} {} -> {} want {}",
                        s.kind, v["doc"]["question"], v["resps"][0][0], v["doc"]["reply"]
                    );
                }
            }
        }
    };
    if args.contains_key("before") {
        ev("base", &base);
    }
    let o = align::sft(align::sft::Job {
        settings: &sft,
        train: &settings,
        base,
        tokenizer: &tok,
        packages: &packages,
        seed: Seed(1),
        checkpoints: scratch.join("cks"),
        metrics: scratch.clone(),
        progress: &P,
        stop: &stop,
    })
    .unwrap();
    println!("{}", o.summary);
    let train::Outcome::Finished(f) = o.training else { panic!() };
    println!("sft loss {} {} tok/s {}s", f.final_loss, f.tokens_per_second, f.seconds);
    ev("aligned", &f.weights);
    std::fs::remove_dir_all(&scratch).ok();
}
