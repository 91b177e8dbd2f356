//! Small systems of linear equations, as regressions need them.

/// Solves `a x = b` for a symmetric positive definite matrix of `b.len()` rows by Cholesky's decomposition; nothing when it is
/// not that, to rounding.
pub(crate) fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let left = a[i * n + j] - dot;
            if i == j {
                // Below this a pivot is rounding alone.
                if left <= a[i * n + i].abs() * 1e-14 || !left.is_finite() {
                    return None;
                }
                a[i * n + i] = left.sqrt();
            } else {
                a[i * n + j] = left / a[j * n + j];
            }
        }
    }
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| a[i * n + k] * b[k]).sum();
        b[i] = (b[i] - dot) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| a[k * n + i] * b[k]).sum();
        b[i] = (b[i] - dot) / a[i * n + i];
    }
    Some(b)
}

/// The coefficients of least squares of `targets` over `rows`, with `damping` times the diagonal added to the normal
/// equations' diagonal.
pub(crate) fn least_squares(rows: &[Vec<f64>], targets: &[f64], damping: f64) -> Option<Vec<f64>> {
    let n = rows.first()?.len();
    let (mut normal, mut right) = (vec![0.0; n * n], vec![0.0; n]);
    for (row, target) in rows.iter().zip(targets) {
        for i in 0..n {
            right[i] += row[i] * target;
            for j in 0..n {
                normal[i * n + j] += row[i] * row[j];
            }
        }
    }
    for i in 0..n {
        normal[i * n + i] *= 1.0 + damping;
    }
    solve(normal, right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn solutions_solve(values in prop::collection::vec(-3.0..3.0f64, 16), right in prop::collection::vec(-3.0..3.0f64, 4)) {
            // M Mᵀ + I is positive definite.
            let mut a = vec![0.0; 16];
            for i in 0..4 {
                for j in 0..4 {
                    a[4 * i + j] = (0..4).map(|k| values[4 * i + k] * values[4 * j + k]).sum::<f64>() + f64::from(u8::from(i == j));
                }
            }
            let x = solve(a.clone(), right.clone()).unwrap();
            for i in 0..4 {
                let product: f64 = (0..4).map(|j| a[4 * i + j] * x[j]).sum();
                prop_assert!((product - right[i]).abs() < 1e-8, "{product} {}", right[i]);
            }
        }
    }

    #[test]
    fn what_has_no_solution_has_none() {
        assert_eq!(solve(vec![1.0, 1.0, 1.0, 1.0], vec![1.0, 2.0]), None);
        assert_eq!(solve(vec![-1.0], vec![1.0]), None);
        assert_eq!(least_squares(&[], &[], 0.0), None);
    }
}
