/** Redraws wait for the next frame and share it: what does not fit in a frame's budget is drawn in the one after. */

const BUDGET = 7 // milliseconds of a frame; the cursor and the browser need the rest
const waiting = new Map<object, () => void>()
let frame = 0
let after: (() => void)[] = []

function flush(): void {
    frame = 0
    const begin = performance.now()
    for (const [owner, draw] of waiting) {
        waiting.delete(owner)
        draw()
        if (performance.now() - begin > BUDGET) break
    }
    if (waiting.size) frame = requestAnimationFrame(flush)
    else {
        const done = after
        after = []
        for (const one of done) one()
    }
}

const wake = () => (frame ||= requestAnimationFrame(flush))

/** Draws once at the next chance; a later request of the same owner replaces an earlier one. */
export function redraw(owner: object, draw: () => void): void {
    waiting.delete(owner)
    waiting.set(owner, draw)
    wake()
}

export function forget(owner: object): void {
    waiting.delete(owner)
}

/** Calls back when everything that waits now has been drawn. */
export function whenDrawn(done: () => void): void {
    after.push(done)
    wake()
}
