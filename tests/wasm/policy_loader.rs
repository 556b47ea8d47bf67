//! Reloads of the policy that overtake each other.

use wasm_bindgen_test::wasm_bindgen_test;

use super::*;

#[wasm_bindgen_test]
fn a_slow_reload_does_not_replace_the_result_of_a_later_one() {
    for (reload, fault) in [(2, "second"), (1, "first")] {
        put_in_use(reload, Err(Misconfiguration(fault.to_owned())), PolicyOrigin::Pushed, None);
    }
    let in_use = STATE.with_borrow(|state| state.in_use.clone());
    assert_eq!(in_use.and_then(Result::err), Some(Misconfiguration("second".to_owned())));
}
