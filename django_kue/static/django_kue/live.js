// Keeps a page of the admin up to date: fetches it anew and swaps the regions that changed.
//
//   <div data-kue-live="2">            every two seconds, while the tab is seen
//     <p data-kue="counts">…</p>       a region, found again by its name
//     <button data-kue-pause>…</button>
//
// Scripts of single pages take part by two events of the document: `kue:fetched` (detail: the new
// document) before regions are swapped, and `kue:swapped` (detail: the regions) after it.
// A region that holds the focus, or a part of the selection, is left alone until the next round.
"use strict";
(() => {
    const root = document.querySelector("[data-kue-live]");
    if (!root) {
        return;
    }
    const usual = 1000 * Number(root.dataset.kueLive);
    const longest = 30000;
    let pause = usual;
    let timer = null;
    let isPaused = false;

    function isBusy(region) {
        const selection = document.getSelection();
        const isSelected = selection && !selection.isCollapsed && region.contains(selection.anchorNode);
        const focused = document.activeElement;
        const isTyping = focused !== document.body && region.contains(focused) &&
            focused.matches("input, select, textarea, [open] *");
        return isSelected || isTyping;
    }

    // What the reader opened stays open.
    function swap(region, incoming) {
        const focusedId = region.contains(document.activeElement) ? document.activeElement.id : "";
        const opened = [...region.querySelectorAll("details[open][id]")].map((details) => details.id);
        region.innerHTML = incoming.innerHTML;
        region.className = incoming.className;
        for (const id of opened) {
            document.getElementById(id)?.setAttribute("open", "");
        }
        if (focusedId) {
            document.getElementById(focusedId)?.focus({preventScroll: true});
        }
    }

    function take(page) {
        document.dispatchEvent(new CustomEvent("kue:fetched", {detail: page}));
        const swapped = [];
        for (const region of document.querySelectorAll("[data-kue]")) {
            const incoming = page.querySelector(`[data-kue="${CSS.escape(region.dataset.kue)}"]`);
            if (incoming && incoming.innerHTML !== region.dataset.kueSeen && !isBusy(region)) {
                if (incoming.innerHTML !== region.innerHTML) {
                    swap(region, incoming);
                    swapped.push(region);
                }
                region.dataset.kueSeen = incoming.innerHTML;
            }
        }
        if (swapped.length) {
            document.dispatchEvent(new CustomEvent("kue:swapped", {detail: swapped}));
        }
    }

    async function refresh() {
        try {
            const response = await fetch(location.href, {headers: {"X-Kue-Live": "1"}, credentials: "same-origin"});
            if (response.redirected || response.status === 404 || response.status === 403) {
                location.reload(); // logged out, or what the page showed is gone
                return;
            }
            root.classList.toggle("kue-stale", !response.ok);
            if (response.ok) {
                take(new DOMParser().parseFromString(await response.text(), "text/html"));
                pause = usual;
            } else {
                pause = Math.min(2 * pause, longest);
            }
        } catch (error) {
            root.classList.add("kue-stale"); // the site is away: what's shown is old
            pause = Math.min(2 * pause, longest);
        }
        schedule();
    }

    function schedule() {
        clearTimeout(timer);
        if (!isPaused && !document.hidden) {
            timer = setTimeout(refresh, pause);
        }
    }

    document.addEventListener("visibilitychange", () => {
        if (!document.hidden && !isPaused) {
            refresh();
        }
    });
    document.addEventListener("click", (event) => {
        const button = event.target.closest("[data-kue-pause]");
        if (button) {
            isPaused = !isPaused;
            button.setAttribute("aria-pressed", String(isPaused));
            root.classList.toggle("kue-paused", isPaused);
            if (isPaused) {
                clearTimeout(timer);
            } else {
                refresh();
            }
        }
    });
    schedule();
})();
