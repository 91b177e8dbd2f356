use crate::trained;
#[test]
fn smoke() {
    let t = trained(700);
    let ids = t.encode(crate::TEXT);
    assert_eq!(t.decode(&ids), crate::TEXT);
}
