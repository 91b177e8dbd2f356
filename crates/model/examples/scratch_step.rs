use kernels::gemm::Precision;
use model::{Batch, Config, Weights, Workspace};
use std::time::Instant;
fn main() {
    let name = std::env::args().nth(1).unwrap_or("small".into());
    let n: usize = std::env::args().nth(2).map_or(8, |s| s.parse().unwrap());
    let base = Config::preset("8b").unwrap();
    let (c, rows, seq) = match &*name {
        "small" => (Config { dim: 256, layers: 6, heads: 8, kv_heads: 2, head_dim: 32, ffn_dim: 768, vocab_size: 4096, ..base }, 8, 256),
        _ => (Config { dim: 768, layers: 12, heads: 12, kv_heads: 4, head_dim: 64, ffn_dim: 2048, vocab_size: 32768, ..base }, 2, 512),
    };
    let mut w = Weights::init(&c, &mut ledger::seed::Seed(1).stream("w", 0)).unwrap();
    let mut ws = Workspace::new(&c, rows, seq);
    let mut g = vec![0.0; w.data.len()];
    let (mut m, mut v) = (g.clone(), g.clone());
    let mut b = Batch::new(rows, seq);
    let mut rng = ledger::seed::Seed(2).stream("b", 0);
    for t in 0..b.tokens() {
        b.inputs[t] = rng.below(c.vocab_size as u64) as u32;
        b.targets[t] = rng.below(c.vocab_size as u64) as u32;
        let bd = seq * 3 / 8;
        b.document_starts[t] = if t % seq >= bd { bd as u32 } else { 0 };
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| {
        let mut ts = vec![];
        for step in 1..=n {
            let t0 = Instant::now();
            kernels::reduce::zero(&mut g);
            let s = model::backward::loss_and_gradients(&w, &b, &mut ws, &mut g, Precision::F32).unwrap();
            let t1 = t0.elapsed().as_secs_f64();
            kernels::adamw::adamw(&mut w.data, &g, &mut m, &mut v, &kernels::adamw::AdamW { learning_rate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, step: step as u64, gradient_scale: (1.0 / s.weight) as f32 });
            let t2 = t0.elapsed().as_secs_f64();
            ts.push(t2);
            println!("{step} loss {:.4} fwdbwd {t1:.4} opt {:.4} tok/s {:.0} gflops {:.0}", s.mean(), t2 - t1, b.tokens() as f64 / t2, c.training_flops_per_token(seq) * b.tokens() as f64 / t2 / 1e9);
        }
        ts.sort_by(f64::total_cmp);
        println!("min {:.0} tok/s median {:.0}", b.tokens() as f64 / ts[0], b.tokens() as f64 / ts[n / 2]);
    });
}
