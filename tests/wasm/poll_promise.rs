//! How many requests may wait in an isolate.

use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

use super::*;

wasm_bindgen_test_configure!(run_in_node_experimental);

/// Begins a request that waits for a promise that is never settled.
fn begin(may_take_ms: u64) {
    let poller = Rc::new(PromisePoller::default());
    let waiting = Rc::clone(&poller);
    let work = async move { waiting.wait(Promise::new(&mut |_, _| {}), may_take_ms).await };
    assert!(advance(Run { work: Box::pin(work), poller }).is_err());
}

#[wasm_bindgen_test]
fn only_so_many_requests_wait_and_lost_ones_make_room() {
    // The clock goes on, or was a day ahead. The first waits began some time before `now`.
    for lost_ms in [65_001.0, -86_400_000.0] {
        for count in 0..limits::WAITING {
            assert!(!is_full(js_sys::Date::now()), "{count} wait");
            begin(60_000);
        }
        let now = js_sys::Date::now();
        assert!(is_full(now) && is_full(now + 60_000.0));
        assert!(!is_full(now + lost_ms));
    }
    begin(0);
    // A promise that is settled too late resumes nothing.
    assert!(resume(1, true, JsValue::UNDEFINED).is_err());
}
