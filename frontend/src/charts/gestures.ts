/** Pointer, wheel and keys on a plot, as positions between 0 (left) and 1 (right) of it. */
export interface Gestures {
    hover(at: number | null): void
    seek(at: number): void
    /** A drag that seeks began (true) or is over. */
    hold?(on: boolean): void
    /** A stretch while it is being marked; `done` when the pointer is lifted, null when given up. */
    select?(range: [number, number] | null, done: boolean): void
    /** `factor` below 1 shows less; the point at `at` stays in its place. */
    zoom?(factor: number, at: number): void
    pan?(by: number): void
    reset?(): void
}

export function gestures(
    element: HTMLElement,
    margin: () => { left: number; right: number },
    on: Gestures,
): () => void {
    const pointers = new Map<number, number>()
    let from: number | null = null // where marking began
    let apart = 0 // between two fingers
    const place = (x: number) => {
        const box = element.getBoundingClientRect()
        const { left, right } = margin()
        return Math.min(Math.max((x - box.left - left) / Math.max(box.width - left - right, 1), 0), 1)
    }
    const down = (event: PointerEvent) => {
        if (event.button !== 0) return
        const at = place(event.clientX)
        pointers.set(event.pointerId, at)
        element.setPointerCapture(event.pointerId)
        if (pointers.size === 2) apart = Math.abs(difference(pointers))
        else if (event.shiftKey && on.select) from = at
        else on.seek(at)
    }
    const move = (event: PointerEvent) => {
        const at = place(event.clientX)
        if (!pointers.has(event.pointerId)) return on.hover(at)
        const before = pointers.get(event.pointerId)!
        pointers.set(event.pointerId, at)
        if (pointers.size === 2) {
            const now = Math.abs(difference(pointers))
            if (now > 0.01 && apart > 0.01) on.zoom?.(apart / now, middle(pointers))
            on.pan?.((before - at) / 2)
            apart = now
        } else if (from !== null) on.select?.([Math.min(from, at), Math.max(from, at)], false)
        else {
            on.hold?.(true)
            on.seek(at)
        }
    }
    const up = (event: PointerEvent) => {
        on.hold?.(false)
        if (!pointers.delete(event.pointerId) || from === null) return
        const at = place(event.clientX)
        const marked = event.type === 'pointerup' && Math.abs(at - from) > 0.005
        on.select?.(marked ? [Math.min(from, at), Math.max(from, at)] : null, marked)
        from = null
    }
    const leave = () => on.hover(null)
    // A plain wheel scrolls the page; with Ctrl (which is also how a touchpad's pinch arrives) it zooms.
    const wheel = (event: WheelEvent) => {
        if (event.ctrlKey || event.metaKey || event.altKey) {
            event.preventDefault()
            on.zoom?.(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.006), place(event.clientX))
        } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
            event.preventDefault()
            on.pan?.(event.deltaX / Math.max(element.clientWidth, 1))
        }
    }
    const double = () => on.reset?.()
    element.addEventListener('pointerdown', down)
    element.addEventListener('pointermove', move)
    element.addEventListener('pointerup', up)
    element.addEventListener('pointercancel', up)
    element.addEventListener('pointerleave', leave)
    element.addEventListener('wheel', wheel, { passive: false })
    element.addEventListener('dblclick', double)
    return () => {
        on.hold?.(false)
        element.removeEventListener('pointerdown', down)
        element.removeEventListener('pointermove', move)
        element.removeEventListener('pointerup', up)
        element.removeEventListener('pointercancel', up)
        element.removeEventListener('pointerleave', leave)
        element.removeEventListener('wheel', wheel)
        element.removeEventListener('dblclick', double)
    }
}

function difference(pointers: Map<number, number>): number {
    const [a, b] = [...pointers.values()] as [number, number]
    return a - b
}
function middle(pointers: Map<number, number>): number {
    const [a, b] = [...pointers.values()] as [number, number]
    return (a + b) / 2
}
