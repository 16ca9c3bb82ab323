/**
 * Redraws wait for the next frame and share it: what does not fit in a frame's budget is drawn in a later one, and on a
 * slow machine a frame between stays free for the cursor. What is out of sight waits until nothing else has been asked
 * for a while.
 */

const BUDGET = 2 // milliseconds of a frame; the cursor and the browser need the rest
const SHARE = 5 // of the time, about one part in so many is spent on drawing
const QUIET = 250 // milliseconds without a request in sight before one out of sight is drawn
const waiting = new Map<object, () => void>()
const unseen = new Map<object, () => void>()
let frame = 0
let free = 0 // when the next drawing may begin
let later: ReturnType<typeof setTimeout> | undefined
let after: (() => void)[] = []

function flush(): void {
    frame = 0
    const begin = performance.now()
    if (begin < free) return wake()
    for (const [owner, draw] of waiting) {
        waiting.delete(owner)
        draw()
        if (performance.now() - begin > BUDGET) break
    }
    free = begin + SHARE * (performance.now() - begin)
    if (waiting.size) wake()
    else {
        const done = after
        after = []
        for (const one of done) one()
    }
}

function wake(): void {
    frame ||= requestAnimationFrame(flush)
}

function rest(): void {
    clearTimeout(later)
    if (unseen.size) later = setTimeout(drawUnseen, QUIET)
}

function drawUnseen(): void {
    const next = unseen.entries().next().value
    if (!next || waiting.size) return rest()
    unseen.delete(next[0])
    next[1]()
    if (unseen.size) later = setTimeout(drawUnseen, 16)
}

/** Draws once at the next chance; a later request of the same owner replaces an earlier one. */
export function redraw(owner: object, draw: () => void, inSight = true): void {
    const [queue, other] = inSight ? [waiting, unseen] : [unseen, waiting]
    other.delete(owner)
    queue.set(owner, draw) // one that waits already keeps its place: nobody is passed over again and again
    if (inSight) wake()
    rest()
}

export function forget(owner: object): void {
    waiting.delete(owner)
    unseen.delete(owner)
}

/** Calls back when everything in sight that waits now has been drawn. */
export function whenDrawn(done: () => void): void {
    after.push(done)
    wake()
}

/** Draws everything now: on paper all is in sight. */
function drawAll(): void {
    for (const queue of [waiting, unseen])
        for (const [owner, draw] of queue) {
            queue.delete(owner)
            draw()
        }
}
if (typeof window !== 'undefined') window.addEventListener('beforeprint', drawAll)
