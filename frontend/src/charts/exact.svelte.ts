/** Every recorded point of the window that is looked at, fetched from the live page's server when one has zoomed in. */
import type { Source } from '../sources/source'
import type { Curve } from '../model/types'
import type { Line } from './spec'

const WAIT = 300 // milliseconds
const MOST = 12_000

interface Found {
    first: number
    last: number
    curve: Curve
}

export class ExactLines {
    private found = $state.raw(new Map<string, Found>())
    private timer: ReturnType<typeof setTimeout> | undefined
    private next: (() => void) | undefined

    /** The lines with the fetched points in place of the thinned ones, where there are some for this window. */
    of(lines: Line[], window: [number, number]): Line[] {
        if (!this.found.size) return lines
        return lines.map((line) => {
            const one = this.found.get(line.name)
            if (!one || one.first > window[0] || one.last < window[1]) return line
            const { steps, values, total } = one.curve
            return { ...line, steps: steps.data, values: values.data, total }
        })
    }

    want(source: Source, lines: Line[], [first, last]: [number, number]): void {
        const names = lines
            .filter((one) => one.name && (one.total ?? 0) > one.steps.length)
            .map((one) => one.name)
        if (!names.length || !source.curve) return
        this.next = () => {
            const room = (last - first) / 4 // so that a short way of panning needs no fetching
            const [from, to] = [Math.floor(first - room), Math.ceil(last + room)]
            void Promise.all(names.map((name) => source.curve!(name, from, to, MOST))).then(
                (curves) => {
                    this.found = new Map(
                        names.map((name, at) => [name, { first: from, last: to, curve: curves[at]! }]),
                    )
                },
                () => {}, // the thinned points stay; the connection's state is said in the header
            )
        }
        this.timer ??= setTimeout(() => {
            this.timer = undefined
            this.next?.()
        }, WAIT)
    }

    clear(): void {
        clearTimeout(this.timer)
        this.timer = undefined
        if (this.found.size) this.found = new Map()
    }
}
