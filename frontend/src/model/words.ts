/** Two texts word by word: what both say, what only the first says and what only the second says. */
import { diffWordsWithSpace } from 'diff'

export interface Piece {
    text: string
    kind: 'same' | 'removed' | 'added'
}
export interface Comparison {
    pieces: Piece[]
    /** Words that both texts begin with before they part. */
    alike: number
    removed: number
    added: number
    /** Only beginning and end were compared: the texts have too little in common. */
    rough: boolean
}

/** Edits after which two texts are called different as a whole; keeps a comparison below some 50 ms. */
const MOST_EDITS = 500
const WORD = /[\p{L}\p{N}_]+/gu
const BOUNDARY = /(?<=\s)(?=\S)/u

export const words = (text: string): number => text.match(WORD)?.length ?? 0

/** Ends alike are left out word by word; everything between counts as replaced. */
function roughly(left: string, right: string): Piece[] {
    const a = left.split(BOUNDARY)
    const b = right.split(BOUNDARY)
    const shorter = Math.min(a.length, b.length)
    let head = 0
    while (head < shorter && a[head] === b[head]) head++
    let tail = 0
    while (tail < shorter - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++
    const pieces: Piece[] = [
        { text: a.slice(0, head).join(''), kind: 'same' },
        { text: a.slice(head, a.length - tail).join(''), kind: 'removed' },
        { text: b.slice(head, b.length - tail).join(''), kind: 'added' },
        { text: a.slice(a.length - tail).join(''), kind: 'same' },
    ]
    return pieces.filter((piece) => piece.text)
}

export function compareTexts(left: string, right: string): Comparison {
    const changes = diffWordsWithSpace(left, right, { maxEditLength: MOST_EDITS })
    const pieces: Piece[] = changes
        ? changes.map((one) => ({
              text: one.value,
              kind: one.added ? 'added' : one.removed ? 'removed' : 'same',
          }))
        : roughly(left, right)
    const count = (kind: Piece['kind']) =>
        pieces.reduce((sum, piece) => sum + (piece.kind === kind ? words(piece.text) : 0), 0)
    const first = pieces[0]
    return {
        pieces,
        alike: first?.kind === 'same' ? words(first.text) : 0,
        removed: count('removed'),
        added: count('added'),
        rough: !changes,
    }
}

/** The pieces of one side, in order. */
export const side = (comparison: Comparison, which: 'left' | 'right'): Piece[] =>
    comparison.pieces.filter((piece) => piece.kind !== (which === 'left' ? 'added' : 'removed'))

const plural = (count: number, noun: string) =>
    `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`

/** One line that says how the texts differ. */
export function difference(comparison: Comparison): string {
    const { pieces, alike, removed, added } = comparison
    if (pieces.every((piece) => piece.kind === 'same')) return 'The texts are the same.'
    if (!removed && !added) return 'They differ in spaces and punctuation only.'
    const change = [removed && `${plural(removed, 'word')} gone`, added && `${plural(added, 'word')} new`]
    const same = alike === 1 ? 'the first word' : `the first ${plural(alike, 'word')}`
    const start = alike ? `alike for ${same}` : 'different from the first word on'
    return `${change.filter(Boolean).join(', ')}; ${start}${comparison.rough ? ' (too different to align further)' : ''}.`
}
