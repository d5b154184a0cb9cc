"""Learning: a classifier of messages by their words, trained by people's decisions. Tokens, sums, and what is remembered of them."""

from gateway.learning.classifier import Clue, Judgement, Known, judge
from gateway.learning.memory import Kind, Memory, Status
from gateway.learning.tokens import Lesson, lesson_of, read_message

__all__ = ["Clue", "Judgement", "Kind", "Known", "Lesson", "Memory", "Status", "judge", "lesson_of", "read_message"]
