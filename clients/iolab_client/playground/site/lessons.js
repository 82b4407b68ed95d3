// Lessons: to come.
export function prepareLessons() {}
export function seeSnapshot() {}
