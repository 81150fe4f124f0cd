//! What templates read of the machine that they are rendered on.

use gatewright::template::helpers::Interfaces;

#[test]
fn a_machine_has_its_loopback() {
    let list = Interfaces::OfThisMachine.list();
    assert!(list.iter().any(|one| one.address.is_loopback()), "{list:?}");
}
