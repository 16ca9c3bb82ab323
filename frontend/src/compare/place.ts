/** What a comparison's address holds: the highlighted run, the head, the panel, the pair. */
import type { Place as Head } from '../model/heads'

export interface Place {
    run: number | null
    head: Head | null
    panel: string | null
    pair: [number, number] | null
}

const WHOLE = /^\d{1,5}$/
const whole = (text: string | null | undefined): number | null =>
    text && WHOLE.test(text) ? Number(text) : null

/** Runs are counted from 1 in the address, as in the table. */
export function parsePlace(hash: string): Place {
    const said = new URLSearchParams(hash.replace(/^#/, ''))
    const run = whole(said.get('selected'))
    const [layer, head] = (said.get('head') ?? '').split('.').map(whole)
    const [left, right] = (said.get('pair') ?? '').split('-').map(whole)
    const panel = said.get('panel')
    return {
        run: run ? run - 1 : null,
        head: layer != null && head != null ? { layer, head } : null,
        panel: panel && /^[a-z-]{1,40}$/.test(panel) ? panel : null,
        pair: left && right ? [left - 1, right - 1] : null,
    }
}

export function placeHash({ run, head, panel, pair }: Place): string {
    const parts: string[] = []
    if (panel) parts.push(`panel=${panel}`)
    if (run !== null) parts.push(`selected=${run + 1}`)
    if (pair) parts.push(`pair=${pair[0] + 1}-${pair[1] + 1}`)
    if (head) parts.push(`head=${head.layer}.${head.head}`)
    return parts.length ? `#${parts.join('&')}` : ''
}
