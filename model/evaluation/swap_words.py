"""Words for men, each with its counterpart for women, in English and Chinese."""

from __future__ import annotations

ENGLISH = (
    ("he", "she"),
    ("himself", "herself"),
    ("sir", "madam"),
    ("man", "woman"),
    ("men", "women"),
    ("boy", "girl"),
    ("boys", "girls"),
    ("gentleman", "lady"),
    ("gentlemen", "ladies"),
    ("father", "mother"),
    ("dad", "mom"),
    ("daddy", "mommy"),
    ("son", "daughter"),
    ("sons", "daughters"),
    ("brother", "sister"),
    ("brothers", "sisters"),
    ("husband", "wife"),
    ("uncle", "aunt"),
    ("nephew", "niece"),
    ("grandfather", "grandmother"),
    ("grandpa", "grandma"),
    ("boyfriend", "girlfriend"),
)
ENGLISH_NAMES = (
    ("Mr", "Ms"),
    ("James", "Mary"),
    ("John", "Patricia"),
    ("Robert", "Jennifer"),
    ("Michael", "Linda"),
    ("David", "Elizabeth"),
    ("William", "Barbara"),
    ("Richard", "Susan"),
    ("Joseph", "Jessica"),
    ("Thomas", "Sarah"),
    ("Charles", "Karen"),
    ("Christopher", "Lisa"),
    ("Daniel", "Nancy"),
    ("Matthew", "Sandra"),
    ("Anthony", "Ashley"),
    ("Donald", "Emily"),
    ("Steven", "Kimberly"),
    ("Andrew", "Margaret"),
    ("Paul", "Donna"),
    ("Joshua", "Michelle"),
    ("Kenneth", "Carol"),
    ("Kevin", "Amanda"),
    ("Brian", "Melissa"),
    ("George", "Deborah"),
    ("Timothy", "Stephanie"),
    ("Ronald", "Rebecca"),
    ("Jason", "Laura"),
    ("Edward", "Helen"),
    ("Jeffrey", "Sharon"),
    ("Ryan", "Cynthia"),
    ("Jacob", "Kathleen"),
    ("Gary", "Amy"),
    ("Nicholas", "Angela"),
    ("Eric", "Anna"),
    ("Jonathan", "Emma"),
    ("Stephen", "Nicole"),
    ("Peter", "Samantha"),
    ("Mike", "Kate"),
    ("Tom", "Jane"),
    ("Bob", "Alice"),
    ("Chandler", "Monica"),
    ("Ross", "Rachel"),
    ("Joey", "Phoebe"),
)
CHINESE = (
    ("他", "她"),
    ("先生", "女士"),
    ("爸爸", "妈妈"),
    ("老爸", "老妈"),
    ("父亲", "母亲"),
    ("哥哥", "姐姐"),
    ("弟弟", "妹妹"),
    ("儿子", "女儿"),
    ("老公", "老婆"),
    ("丈夫", "妻子"),
    ("男性", "女性"),
    ("男人", "女人"),
    ("男生", "女生"),
    ("男孩", "女孩"),
    ("男友", "女友"),
    ("男朋友", "女朋友"),
    ("爷爷", "奶奶"),
    ("叔叔", "阿姨"),
    ("帅哥", "美女"),
    ("小伙子", "小姑娘"),
    ("志强", "丽娟"),
    ("建军", "秀英"),
    ("志明", "秀兰"),
    ("国强", "淑珍"),
    ("建华", "桂英"),
    ("家豪", "雅婷"),
    ("浩然", "欣怡"),
    ("子轩", "梓涵"),
    ("俊杰", "美玲"),
    ("明辉", "晓燕"),
    ("文杰", "婷婷"),
    ("伟强", "丽丽"),
    ("李雷", "韩梅梅"),
)
MALE_ALONE = (("him", "her"), ("男士", "女士"))
"""Words for men whose counterpart goes back to another one."""
FEMALE_ALONE = (("Mrs", "Mr"), ("hers", "his"))
"""The same for women."""
NOT_A_NOUN = frozenset(
    """
    a about after again all also an and any are as at away back because before but by can did
    down even for from had has have he her here him how i if in into is it just later like more
    much no not now of off on or out over really right she so than that the then there they this
    to today tomorrow tonight too up very was we were what when where which while who why will
    with would yesterday yet you
    """.split()  # noqa: SIM905
)
"""Words before which `her` is an object ("saw her again"), and `his` stands alone ("his is")."""
